"""The table of sources: which one an input is, and what is said of it without Beam."""

import datetime
import pathlib
import subprocess
import sys

import pytest

from penstock.io.errors import ConfigError, InputError
from penstock.io.formats.csv.format import CsvFormat
from penstock.io.formats.json.format import JsonlFormat
from penstock.io.kafka.kind import KafkaKind
from penstock.io.sources.base import SourceRequest
from penstock.io.sources.files import FileSource, WatchedSource
from penstock.io.sources.patterns import PatternKind
from penstock.io.sources.registry import SCHEMES, kind_of, open_source, payload_settings, scheme_of

SECOND = datetime.timedelta(seconds=1)
TOPIC = "kafka://a:1/t"
SOURCES = pathlib.Path(__file__).parents[3] / "src"


@pytest.mark.parametrize(
    ("uris", "kind"),
    [
        (["a.csv"], PatternKind),
        (["/data/kafka.csv", "gs://kafka/x"], PatternKind),
        (["nope://b/x"], PatternKind),
        (["kafka:a"], PatternKind),
        ([TOPIC], KafkaKind),
        (["a.csv", TOPIC], KafkaKind),
        ([], PatternKind),
    ],
)
def test_the_scheme_tells_the_kind(uris, kind):
    assert type(kind_of(*uris)) is kind


def test_nothing_heavy_is_imported_for_what_is_said_of_a_source():
    program = (
        "import sys\n"
        "from penstock.io.sources.base import SourceRequest\n"
        "from penstock.io.sources.registry import SCHEMES, kind_of\n"
        f"assert kind_of({TOPIC!r}).is_endless(SourceRequest(({TOPIC!r},)))\n"
        "assert kind_of('a.tsv').replay_format(['a.tsv']) == ('csv', {'csv_delimiter': chr(9)})\n"
        "print([name for name in ('apache_beam', 'pyarrow', 'numpy', 'confluent_kafka') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(SOURCES)}
    )
    assert done.stdout.strip() == "[]"


def test_an_unknown_scheme_is_told_all_that_are_known():
    with pytest.raises(
        ConfigError, match=r"^--input foo://b/x: no filesystem is known for foo://; .*hdfs://, kafka://$"
    ):
        kind_of("foo://b/x").reach("foo://b/x", "--input foo://b/x")
    with pytest.raises(ConfigError, match=r"for kafak://; did you mean kafka://\?"):
        kind_of("kafak://a:1/t").reach("kafak://a:1/t", "--input")
    assert scheme_of("foo://b/x") is None
    assert all(scheme_of(f"{scheme}://x") == scheme for scheme in SCHEMES)


@pytest.mark.parametrize(
    ("request_", "endless"),
    [
        (SourceRequest(("a.csv",)), False),
        (SourceRequest(("a.csv",), watch=SECOND), True),
        (SourceRequest((TOPIC,)), True),
        (SourceRequest((f"{TOPIC}?stop=latest",)), False),
    ],
)
def test_flags_tell_whether_a_source_has_an_end(request_, endless):
    assert kind_of(*request_.inputs).is_endless(request_) is endless


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (SourceRequest((TOPIC, "a.csv")), r"--input kafka://\.\.\. stands alone; name several topics in it"),
        (SourceRequest((TOPIC,), watch=SECOND), "--watch is for files; a topic is a stream anyway"),
        (SourceRequest(("kafka://a/t",)), "a broker must be HOST:PORT"),
    ],
)
def test_what_does_not_go_together_is_refused(request_, message):
    with pytest.raises(ConfigError, match=message):
        kind_of(*request_.inputs).is_endless(request_)
    with pytest.raises(ConfigError, match=message):
        open_source(request_)


def test_files_are_opened_by_the_names_that_are_asked_for(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("a\n1\n")
    found = open_source(SourceRequest((str(path),), options={"csv_multiline": True}))
    assert isinstance(found, FileSource)
    assert found.reader == CsvFormat("\t", multiline=True)
    assert open_source(SourceRequest((str(path),), format="json")).reader == JsonlFormat()
    watched = open_source(SourceRequest((str(tmp_path / "*.ndjson"),), watch=2.0))
    assert isinstance(watched, WatchedSource)
    assert (watched.reader, watched.is_bounded) == (JsonlFormat(), False)
    with pytest.raises(ConfigError, match="--avro_schema is no option of CSV files"):
        open_source(SourceRequest((str(path),), options={"avro_schema": "x"}))
    with pytest.raises(ConfigError, match=r"the format of files must be one of csv, .*, got 'raw'"):
        open_source(SourceRequest((str(path),), format="raw"))
    with pytest.raises(InputError, match="no file matches"):
        open_source(SourceRequest((str(tmp_path / "b.csv"),)))


def test_what_a_replay_needs_to_know_of_a_run_is_in_its_inputs():
    assert kind_of(TOPIC).replay_format([TOPIC]) == ("json", {})
    assert kind_of("a.jsonl.gz").replay_format(["a.jsonl.gz"]) == ("jsonl", {})
    assert kind_of("a.dat").replay_format(["a.dat"]) == (None, {})
    assert payload_settings(["a.avro"]) == {}
    uri = f"{TOPIC}?schema_registry=http://r:1&config=c"
    assert payload_settings([uri]) == {"schema_registry": "http://r:1", "config": "c"}
