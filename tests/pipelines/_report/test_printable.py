"""What others chose to name cannot rewrite a terminal, and passwords are not shown."""

import dataclasses
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines._report.printable import mapped, masked, printable, printable_lines, shell_word


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("größe 東京 👩‍🚀.csv", "größe 東京 👩‍🚀.csv"),
        ("a\x1b[2J\x1b]0;x\x07", r"a\x1b[2J\x1b]0;x\x07"),
        ("a\nb\r\tc\0", r"a\nb\r\tc\x00"),
        ("\x7f\x9b31m\u2028", r"\x7f\x9b31m\u2028"),
        ("\u202egpj.exe\u2066\u200f\ufeff", r"\u202egpj.exe\u2066\u200f\ufeff"),
        ("\udcff\ud800", r"\xff\ud800"),
        ("a\\x1b", r"a\x1b"),
    ],
    ids=["letters", "escapes", "breaks", "controls", "directions", "bytes", "backslash"],
)
def test_control_characters_are_spelled_out(text, shown):
    assert printable(text) == shown


@given(st.text(st.characters(), max_size=50))
def test_any_text_is_printable(text):
    assert all(c.isprintable() or c.isspace() or not c.isascii() for c in printable(text))
    assert not any(c in printable(text) for c in "\x1b\n\r\x9b\u202e")
    printable(text).encode()


def test_a_message_keeps_its_indented_lines_and_no_others():
    assert printable_lines("rule x:\n  a >\n     ^") == "rule x:\n  a >\n     ^"
    assert printable_lines("/a\npenstock: error: no\n") == "/a\\npenstock: error: no\n"


PASSWORDS = [
    ("s3://me:secret@bucket/x", "s3://me:***@bucket/x"),
    ("s3://:secret@bucket/x", "s3://:***@bucket/x"),
    ("http://me:sec/ret@host/x?a=b", "http://me:***@host/x?a=b"),
    ("http://me:s@cret@host:80/x", "http://me:***@host:80/x"),
    ("'http://me:secret@a' and 'http://b:80/c@d'", "'http://me:***@a' and 'http://b:80/c@d'"),
    ("https://token@host/x", "https://***@host/x"),
    ("https://h/x?sig=abc&b=1&X-Amz-Signature=de", "https://h/x?sig=***&b=1&X-Amz-Signature=***"),
    ("sasl.password=secret, ssl.key.password=x", "sasl.password=***, ssl.key.password=***"),
    ("PENSTOCK_KAFKA_SASL_PASSWORD=secret", "PENSTOCK_KAFKA_SASL_PASSWORD=***"),
]


@pytest.mark.parametrize(("text", "shown"), PASSWORDS)
def test_passwords_are_masked(text, shown):
    assert masked(text) == printable(text) == masked(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "kafka://a:9092,b:9092/t?key=user@x&start=latest",
        "abfss://container@account.dfs.core.windows.net/a",
        "hdfs://user@host:8020/a",
        "gs://bucket/a:b@c.csv",
        "/data/a:b@c.csv",
        "http://[::1]:80/x@y",
        "column password=1 is no token: sig",
    ],
)
def test_what_is_no_password_stays(text):
    assert masked(text) == text


@dataclasses.dataclass(frozen=True)
class _Thing:
    name: str
    parts: tuple[str, ...]
    count: int = 1


def test_all_texts_of_a_value_are_changed():
    value = {"a\n": [_Thing("b\n", ("c\n",)), None, 2.5, True]}
    assert mapped(value, printable) == {"a\\n": [_Thing("b\\n", ("c\\n",)), None, 2.5, True]}


@pytest.mark.parametrize("name", ["a b", "a'b\\c", "a\x1b[2J'\\\n", "ü\u202e", "\udcff"])
def test_a_word_of_a_command_is_read_as_it_was(name):
    word = shell_word(name)
    assert printable(word) == word
    told = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True).stdout
    assert told == name.encode("utf-8", "surrogateescape")
