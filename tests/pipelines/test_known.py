"""Which files a dataset has: what is moved is known, what is alike is not."""

import dataclasses
import os

import pytest

from penstock.io.errors import DataError
from penstock.io.files.inputs import stat_file
from pipelines._plan.known import KnownInputs, with_ends

# A time that an archive gives all its files.
_TIME = 1_700_000_000


def written(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (_TIME, _TIME))
    return stat_file(str(path))


def entry(file):
    (found,) = with_ends([{**dataclasses.asdict(file), "span": "a"}])
    return found


def test_a_file_that_was_moved_is_known_and_one_that_is_alike_is_not(tmp_path):
    first = written(tmp_path / "day1" / "a.csv", "id\n" + "1\n" * 30_000)
    known = KnownInputs([entry(first)])
    (tmp_path / "kept").mkdir()
    os.rename(first.uri, tmp_path / "kept" / "a.csv")
    assert known.has(stat_file(str(tmp_path / "kept" / "a.csv")))
    alike = written(tmp_path / "day2" / "a.csv", "id\n" + "1\n" * 29_999 + "2\n")
    assert (alike.size, alike.version) == (first.size, first.version)
    assert not known.has(alike)


def test_a_file_that_has_changed_is_refused_unless_it_is_retired(tmp_path):
    known = KnownInputs([entry(written(tmp_path / "a.csv", "id\n1\n"))])
    changed = written(tmp_path / "a.csv", "id\n1\n2\n")
    with pytest.raises(DataError, match=r"is in the dataset \(span a\) as it was before, with 5 bytes, and has 7"):
        known.has(changed)
    assert not known.has_same(changed)


def test_an_entry_without_ends_is_compared_by_name_size_and_version(tmp_path):
    file = written(tmp_path / "day1" / "a.csv", "id\n1\n")
    known = KnownInputs([dataclasses.asdict(file)])
    assert known.has(written(tmp_path / "day2" / "a.csv", "id\n2\n"))
    objects = KnownInputs([{**dataclasses.asdict(file), "uri": "gs://b/1/a.csv"}])
    assert objects.has(dataclasses.replace(file, uri="gs://b/2/a.csv"))
    assert with_ends([{"uri": "gs://b/1/a.csv", "size": 1, "version": "7"}, {"uri": str(tmp_path / "x")}]) == [
        {"uri": "gs://b/1/a.csv", "size": 1, "version": "7"},
        {"uri": str(tmp_path / "x")},
    ]
