"""The table of formats of messages: what a line promises is so."""

import pickle

import pyarrow as pa
import pytest

from penstock.io.errors import ConfigError
from penstock.io.formats.registry import FORMATS
from penstock.io.messages.registry import DECODERS, decoder_name, find_decoder, flag_options
from pipelines.prepare import PrepareOptions

NEEDED = {"csv": {"column_names": ["a"]}, "avro": {"schema_registry": "http://localhost:1"}}


@pytest.mark.parametrize("entry", DECODERS.values(), ids=DECODERS)
def test_every_line_makes_a_decoder_that_pickles_before_it_is_made(entry):
    make = entry.make(None, **NEEDED.get(entry.name, {}))
    decoder = pickle.loads(pickle.dumps(make))()
    assert len(decoder.decode(pa.array([], pa.binary())).indices) == 0


def test_every_option_is_a_flag_once():
    flags = [action.dest for action in PrepareOptions.parser()._actions]
    assert {option.flag for entry in DECODERS.values() for option in entry.options} <= set(flag_options())
    assert all(flags.count(name) == 1 for name in flag_options())


def test_names_of_files_stand_for_what_decodes_their_rows():
    assert {name: decoder_name(name) for name in ("jsonl", "tfrecord", "csv", "avro", "raw", "xml")} == {
        **{"jsonl": "json", "tfrecord": "tfexample", "csv": "csv", "avro": "avro", "raw": "raw", "xml": "xml"},
    }
    assert decoder_name("parquet") == "parquet", "its rows have no bytes"
    assert {entry.payloads for entry in FORMATS.values()} - {None} <= set(DECODERS)


@pytest.mark.parametrize(("name", "hint"), [("jsonl", "; did you mean json"), ("rwa", "did you mean raw"), ("xx", "$")])
def test_an_unknown_name_is_refused(name, hint):
    with pytest.raises(ConfigError, match=f"must be one of {', '.join(DECODERS)}, got '{name}'.*{hint}"):
        find_decoder(name)
