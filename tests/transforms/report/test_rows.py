import dataclasses

import pytest
from report_samples import MANIFEST, letter

from penstock.io.dataset.manifest import Manifest
from penstock.io.dead_letters.record import DeadLetter
from penstock.io.errors import ConfigError
from penstock.io.reasons import Note, Reason
from penstock.transforms.report.rows import rows_of


def test_nothing_is_known_without_manifest_and_letters():
    assert rows_of(None, ()) is None


def test_counts_come_from_the_manifest_and_examples_from_the_letters():
    found = rows_of(MANIFEST, iter([letter(), letter("rule.fare", "x,\u202ey")]))
    assert (found.rows_in, found.rows_out, found.rejected) == (1000, 990, 10)
    assert [(one.reason, one.rows, len(one.examples)) for one in found.rejects] == [
        ("schema.range", 7, 1),
        ("rule.fare", 4, 1),
    ]
    assert found.rejects[1].examples[0].payload == "x,⟨U+202E⟩y"
    assert found.rejects[0].examples[0].where == "flights.csv:17"
    assert found.notes == (("float32.rounded", "fare, 12 times: 16777217 becomes 16777216"),)
    assert ("options", '{"seed": 0}') in found.facts


def test_a_manifest_is_read_as_its_dict():
    fields = {
        **MANIFEST,
        "run_id": "r",
        "shards": (),
        "dead_letters": (),
        "compression": "gzip",
        "shuffle": "x",
        "seed": 0,
    }
    fields["notes"] = tuple(Note(**note) for note in MANIFEST["notes"])
    manifest = Manifest(**fields)
    assert rows_of(manifest, ()) == rows_of(dataclasses.asdict(manifest), ())


def test_letters_alone_are_counted_and_three_of_each_reason_are_shown():
    letters = (letter(payload=str(index), also=[{"reason": "rule.a", "detail": "b"}]) for index in range(1000))
    found = rows_of(None, letters)
    assert (found.rows_in, found.rejected, found.stages) == (None, 1000, {"schema": 1000})
    assert [(one.reason, one.rows, [e.payload for e in one.examples]) for one in found.rejects] == [
        ("rule.a", 1000, ["0", "1", "2"]),
        ("schema.range", 1000, ["0", "1", "2"]),
    ]
    assert found.rejects[0].examples[0].also == ("schema.range: month must be at most 12, got 13",)


def test_a_dead_letter_is_the_same_as_its_line():
    record = DeadLetter((Reason("schema.range", "d"),), "schema", "a.csv", 1, "eA==", "base64")
    [one] = rows_of(None, [record]).rejects
    assert one.examples[0].payload == "eA== (base64)"


def test_a_row_with_one_reason_twice_counts_once():
    twice = letter(also=[{"reason": "schema.range", "detail": "day must be at most 31, got 32"}])
    [one] = rows_of(None, [twice]).rejects
    assert (one.rows, len(one.examples)) == (1, 2)


@pytest.mark.parametrize(
    ("manifest", "letters", "message"),
    [
        pytest.param([1], (), "manifest must be a Manifest, a WindowManifest or their JSON", id="kind"),
        pytest.param({"rows_in": 1}, (), "it lacks rows_out, rows_rejected", id="fields"),
        pytest.param(
            None, ["line"], "a dead letter must be a DeadLetter, or its JSON as a dict, got 'line'", id="letter"
        ),
        pytest.param(None, [{"reason": "x"}], "a dead letter must be a DeadLetter", id="letter's fields"),
    ],
)
def test_other_things_are_refused(manifest, letters, message):
    with pytest.raises(ConfigError, match=message):
        rows_of(manifest, letters)
