"""Lines: ranges and blocks against a plain split, the line index against single lines."""

import gzip
import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from depth import on_shared_path, scaled
from helpers import payloads_in
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.io.errors import InputError
from penstock.io.files.inputs import InputFile, stat_file
from penstock.io.formats.base import Part
from penstock.io.formats.lines import (
    LONG_LINE_PAYLOAD_BYTES,
    Block,
    LongLine,
    blank_lines,
    counts_per_line,
    index_lines,
    invalid_utf8,
    lone_cr_lines,
    long_line_letter,
    parsed_slices,
    read_blocks,
    read_chunks,
    split_part,
)
from penstock.io.kernel.shared.positions import lone_crs, occurrences


def write(path: Path, data: bytes, name: str = "t.txt") -> InputFile:
    file = path / name
    file.write_bytes(data)
    return stat_file(str(file))


BOM = b"\xef\xbb\xbf"
texts = st.lists(st.sampled_from([b"\n", b"\n", b"\r\n", b"\r", b"a", b"bcd", b"x" * 20, BOM]), max_size=30).map(
    b"".join
)


def expected_lines(data: bytes) -> list[tuple[int, bytes]]:
    """(position, bytes with line end) of each line."""
    position = len(BOM) if data.startswith(BOM) else 0
    found = []
    for line in data[position:].splitlines(keepends=True) if b"\r" not in data else split_lf(data[position:]):
        found.append((position, line))
        position += len(line)
    return found


def split_lf(data: bytes) -> list[bytes]:
    lines = [line + b"\n" for line in data.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def lines_of(blocks) -> list[tuple[int, bytes]]:
    found = []
    for block in blocks:
        lines = index_lines(block)
        assert lines.joined() == block.data
        for start, end in zip(lines.starts.tolist(), lines.nexts.tolist(), strict=True):
            found.append((block.offset + start, block.data[start:end]))
    return found


@on_shared_path(500)
@given(data=texts, cuts=st.lists(st.integers(1, 60), max_size=6), block_bytes=st.sampled_from([1, 2, 3, 7, 30, 1000]))
@example(BOM + b"a\nb\n", [1, 2, 3, 4], 1)
@example(b"a\nb\n", [1, 2, 3, 4], 1)
def test_ranges_own_each_line_once(tmp_path, data, cuts, block_bytes):
    file = write(tmp_path, data)
    borders = [0, *sorted(set(cuts)), None]
    found = [
        line
        for start, end in itertools.pairwise(borders)
        for line in lines_of(read_blocks(file, Part(start, end), block_bytes))
    ]
    assert found == expected_lines(data)


@on_shared_path(200)
@given(data=texts, start=st.integers(0, 60), length=st.integers(1, 60))
def test_a_range_owns_the_lines_that_start_in_it(tmp_path, data, start, length):
    file = write(tmp_path, data)
    lines = expected_lines(data)
    # The first line starts at 0, also behind a byte order mark.
    owned = [line for line in lines if (start == 0 if line is lines[0] else start <= line[0] < start + length)]
    assert lines_of(read_blocks(file, Part(start, start + length), 5)) == owned


@on_shared_path(200)
@given(data=texts, block_bytes=st.sampled_from([1, 3, 10, 1000]), limit=st.sampled_from([1, 4, 19, 20, 21]))
def test_lines_over_the_limit_are_passed_over(tmp_path, data, block_bytes, limit):
    found, long_lines = [], []
    for block in read_blocks(write(tmp_path, data), Part(), block_bytes, limit):
        if isinstance(block, LongLine):
            long_lines.append(block)
        else:
            found.extend(lines_of([block]))
    expected = dict(expected_lines(data))
    for line in long_lines:
        text = expected.pop(line.offset)
        assert len(text.removesuffix(b"\n")) > limit + 1
        assert line.head == text.removesuffix(b"\n").removesuffix(b"\r") or not text.endswith(b"\n")
    assert found == list(expected.items())


def test_a_long_line_is_never_held_in_memory(tmp_path):
    file = write(tmp_path, b"a\n" + b"x" * 30_000_000 + b"\nb\n")
    tracemalloc.start()
    blocks = list(read_blocks(file, Part(), 1 << 16, 1 << 20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [type(block) for block in blocks] == [Block, LongLine, Block]
    assert (blocks[1].offset, len(blocks[1].head)) == (2, LONG_LINE_PAYLOAD_BYTES)
    assert blocks[2] == Block(b"b\n", 30_000_003)
    assert peak < 4 << 20


def test_blocks_bound_the_memory(tmp_path):
    file = write(tmp_path, b"some text of a line\n" * 1_000_000)
    tracemalloc.start()
    assert sum(len(block.data) for block in read_blocks(file, Part(), 1 << 18)) == 20_000_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20


def test_compressed_files_are_streamed_whole_in_full_blocks(tmp_path):
    data = BOM + b"0123456789\n" * 50_000
    file = write(tmp_path, gzip.compress(data), "t.txt.gz")
    chunks = list(read_chunks(file, 100_000))
    assert [position for position, _ in chunks] == [3, 100_000, 200_000, 300_000, 400_000, 500_000]
    assert b"".join(chunk for _, chunk in chunks) == data[3:]
    assert lines_of(read_blocks(file, Part(), 1000)) == expected_lines(data)


def test_utf16_is_refused_only_at_the_start(tmp_path):
    file = write(tmp_path, b"\xff\xfea\0\n\0")
    with pytest.raises(InputError, match=r"t\.txt: the file is UTF-16 or UTF-32; convert it to UTF-8"):
        list(read_blocks(file, Part()))
    assert lines_of(read_blocks(write(tmp_path, b"a\n\xff\xfe\n"), Part(2, None))) == [(2, b"\xff\xfe\n")]


def test_parts_cover_a_plain_file(tmp_path):
    assert list(split_part(InputFile("a.csv", 25, 0), 10)) == [Part(0, 10), Part(10, 20), Part(20, None)]
    assert list(split_part(InputFile("a.csv", 20, 0), 10)) == [Part(0, 10), Part(10, None)]
    assert list(split_part(InputFile("a.csv", 10, 0), 10)) == [Part()]
    assert list(split_part(InputFile("a.csv", 0, 0), 10)) == [Part()]
    assert list(split_part(InputFile("a.csv.gz", 25, 0), 10)) == [Part()]
    assert list(split_part(InputFile("a.csv", 25, 0), 10, splittable=False)) == [Part()]


def test_parts_follow_from_the_size_of_the_file():
    sizes = {size: len(list(split_part(InputFile("a.csv", size << 20, 0)))) for size in (1, 4, 100, 128, 1000, 10_000)}
    assert sizes == {1: 1, 4: 1, 100: 25, 128: 32, 1000: 32, 10_000: 157}


pieces = [
    b"\n",
    b"\r\n",
    b"\r",
    b'"',
    b"\0",
    b"\xff",
    "é".encode(),
    b"\xed\xa0\x80",
    b" ",
    b"\t",
    b"abc",
    b"\xf4\x90\x80\x80",
]
blocks = st.lists(st.sampled_from(pieces), max_size=30).map(b"".join)


@settings(max_examples=scaled(400))
@given(data=blocks)
def test_the_index_of_a_block_equals_its_lines_one_by_one(data):
    lines = index_lines(Block(data, 100))
    expected = [
        line.removesuffix(b"\n").removesuffix(b"\r") if line.endswith(b"\n") else line for line in split_lf(data)
    ]
    texts = [lines.line(i) for i in range(len(lines))]
    assert texts == expected
    assert lines.lengths().tolist() == [len(text) for text in texts]
    assert counts_per_line(lines, occurrences(data, 0)).tolist() == [text.count(b"\0") for text in texts]
    assert counts_per_line(lines, occurrences(data, ord('"'))).tolist() == [text.count(b'"') for text in texts]
    assert counts_per_line(lines, lone_crs(data)).tolist() == [text.count(b"\r") for text in texts]
    assert lone_cr_lines(lines).tolist() == [b"\r" in text for text in texts]
    assert invalid_utf8(lines).tolist() == [not is_utf8(text) for text in texts]
    assert blank_lines(lines).tolist() == [not text for text in texts]
    assert blank_lines(lines, whitespace=True).tolist() == [not text.strip(b" \t\r") for text in texts]
    assert (lines.positions() - 100).tolist() == lines.starts.tolist()


def is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(data=texts, seed=st.integers(0, 1000))
def test_joined_lines_are_those_that_were_selected(data, seed):
    lines = index_lines(Block(data, 0))
    keep = np.random.default_rng(seed).random(len(lines)) < 0.5
    expected = b"".join(line for line, kept in zip(split_lf(data), keep, strict=True) if kept)
    assert lines.select(keep).joined() == expected
    assert lines.select(np.flatnonzero(keep)).joined() == expected


def test_slices_keep_rows_and_lines_together_and_rejects_once():
    lines = index_lines(Block(b"".join(b"%d\n" % i for i in range(160_000)), 0))
    batch = pa.record_batch({"x": pa.array(range(160_000))})
    letter = long_line_letter(LongLine(7, b"xyz"), "uri", "csv.too_long", 2)
    slices = list(parsed_slices(batch, [letter], lines))
    assert [list(parsed.rejected) for parsed in slices] == [[letter], [], []]
    for parsed in slices:
        assert payloads_in(parsed)[0] == str(parsed.batch["x"][0]).encode()
        assert payloads_in(parsed)[-1] == str(parsed.batch["x"][-1]).encode()
    (only,) = parsed_slices(batch.slice(0, 0), [letter], lines.select(np.zeros(len(lines), bool)))
    assert (only.batch.num_rows, list(only.rejected)) == (0, [letter])
    assert not list(parsed_slices(batch.slice(0, 0), [], lines))


def test_the_letter_of_a_long_line_has_its_beginning():
    letter = long_line_letter(LongLine(7, b"x" * 10_000), "uri", "csv.too_long", 9000)
    assert (letter.position, letter.stage, len(letter.payload)) == (7, "read", LONG_LINE_PAYLOAD_BYTES)
    assert letter.reasons[0].detail == "the line has more than 9000 bytes; the payload is its first 4096 bytes"
