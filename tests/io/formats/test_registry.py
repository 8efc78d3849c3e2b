"""The table of formats: what a line promises is so, and what is asked of it wrongly is refused with a remedy."""

import inspect
import pickle

import pytest

import penstock.io
from penstock.io.errors import ConfigError, InputError
from penstock.io.formats.csv.format import CsvFormat
from penstock.io.formats.registry import (
    COLUMNS,
    FORMATS,
    by_keyword,
    choose_format,
    detect_format,
    find_format,
    format_names,
    suffix_options,
)
from penstock.io.messages.registry import DECODERS
from penstock.io.sources import readers
from penstock.io.sources.read import ReadRecords
from pipelines.prepare import PrepareOptions


def reader_name(entry):
    return f"ReadFrom{entry.load().__name__.removesuffix('Format')}"


@pytest.mark.parametrize("entry", FORMATS.values(), ids=FORMATS)
class TestEveryLine:
    def test_names_a_format(self, entry):
        made = entry.make()
        assert all(callable(getattr(made, name)) for name in ("columns", "plan", "read", "tail"))
        assert pickle.loads(pickle.dumps(made)) == made

    def test_names_options_of_the_format_and_what_decodes_its_rows(self, entry):
        options = inspect.signature(entry.load()).parameters
        assert {option.keyword for option in entry.options} <= set(options)
        assert {keyword for values in entry.by_suffix.values() for keyword in values} <= set(options)
        assert set(entry.by_suffix) <= set(entry.suffixes)
        if entry.payloads is not None:
            assert set(entry.payload_options) <= set(DECODERS[entry.payloads].settings)

    def test_is_found_by_its_names_and_suffixes(self, entry):
        assert all(find_format(name) is entry for name in (entry.name, *entry.aliases))
        assert all(detect_format([f"gs://b/x.{suffix.upper()}"]) == entry.name for suffix in entry.suffixes)
        assert all(choose_format(None, [f"x.{entry.suffixes[0]}{end}"]) is entry for end in entry.compressions)

    def test_has_a_transform_that_shows_its_options(self, entry):
        transform = getattr(penstock.io, reader_name(entry))
        assert issubclass(transform, ReadRecords)
        assert reader_name(entry) in penstock.io.__all__
        shown = list(inspect.signature(transform).parameters)
        assert shown == ["inputs", "features", "partitioning", *inspect.signature(entry.load()).parameters]
        assert entry.title in inspect.getdoc(transform)

    def test_is_a_choice_of_the_jobs(self, entry):
        (flag,) = [action for action in PrepareOptions.parser()._actions if action.dest == "format"]
        assert {entry.name, *entry.aliases} <= set(flag.choices)
        flags = {action.dest for action in PrepareOptions.parser()._actions}
        assert {option.flag for option in entry.options} <= flags


def test_no_two_lines_have_a_name_or_suffix_in_common():
    names = list(format_names())
    suffixes = [suffix for entry in FORMATS.values() for suffix in entry.suffixes]
    assert len(set(names)) == len(names)
    assert len(set(suffixes)) == len(suffixes)


def test_transforms_pickle_and_have_the_names_of_their_classes():
    transform = readers.ReadFromCsv(["a.csv"], delimiter=";")
    assert pickle.loads(pickle.dumps(transform)).format == CsvFormat(";")
    assert readers.ReadFromCsv is penstock.io.ReadFromCsv
    assert transform.default_label() == "ReadFromCsv"
    for name in ("ReadFromXml", "Csv", "ReadFrom"):
        with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
            getattr(readers, name)


@pytest.mark.parametrize("name", [name for name, entry in FORMATS.items() if not entry.compressions])
def test_a_format_that_compresses_inside_refuses_compressed_files_before_they_are_read(name):
    entry = FORMATS[name]
    with pytest.raises(InputError, match=rf"^x.{entry.suffixes[0]}.gz: {entry.title} is compressed inside.*unpack it"):
        choose_format(None, [f"x.{entry.suffixes[0]}.gz"])
    with pytest.raises(InputError, match=r"^a.bz2: .* so none can be bz2"):
        choose_format(name, ["a.bz2"])


def test_options_that_are_not_there_are_refused():
    with pytest.raises(ConfigError, match=r"^format jsonl has no option delimiter; it has part_bytes, block"):
        FORMATS["jsonl"].make(delimiter=";")
    with pytest.raises(ConfigError, match=r"^--x is no option of CSV files: its own are --columns; leave it out"):
        by_keyword({"columns": ("a",), "x": 1}, [COLUMNS], "CSV files")
    assert by_keyword({"columns": ("a",)}, [COLUMNS], "CSV files") == {"column_names": ("a",)}


def test_a_suffix_stands_for_options_that_are_not_given():
    entry = FORMATS["csv"]
    assert suffix_options(entry, ["a.tsv", "b.TSV.gz"]) == {"delimiter": "\t"}
    assert suffix_options(entry, ["a.tsv", "b.csv"], ["delimiter"]) == {}
    assert suffix_options(entry, ["a.csv"]) == {}
    assert entry.make_for(["a.tsv"], multiline=True) == CsvFormat("\t", multiline=True)
