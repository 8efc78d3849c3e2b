"""Claims: a file is replayed once, whoever comes second, and whatever becomes of the first."""

import os
import subprocess
import sys
import threading

import pytest

from penstock.io.dead_letters.replay import claims
from penstock.io.dead_letters.replay.claims import Claim, claim_files, claiming, is_claim
from penstock.io.errors import DataError
from penstock.io.files.inputs import match_files


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.jsonl").write_text("{}\n")
    (tmp_path / "b.jsonl").write_text("{}\n")
    return match_files([f"{tmp_path}/*.jsonl"])


def names(found):
    return [file.uri.rsplit("/", 1)[1] for file in found]


def claim(run_id, tmp_path, **fields):
    return Claim(run_id, str(tmp_path / run_id), **fields)


def test_who_comes_second_gets_nothing(files, tmp_path):
    first = claim_files(files, claim("one", tmp_path))
    second = claim_files(files, claim("two", tmp_path))
    assert names(first.taken) == ["a.jsonl", "b.jsonl"]
    assert (second.taken, second.done) == ((), ())
    assert second.others == {file.uri: "one" for file in files}
    assert not any(".claim-two" in name for name in os.listdir(tmp_path))


def test_what_is_done_stays_done(files, tmp_path):
    with claiming(files[:1], claim("one", tmp_path)):
        pass
    found = claim_files(files, claim("two", tmp_path))
    assert (names(found.done), names(found.taken)) == (["a.jsonl"], ["b.jsonl"])
    assert names(claim_files(files, claim("three", tmp_path)).done) == ["a.jsonl"]


def test_what_failed_is_given_back(files, tmp_path):
    with pytest.raises(DataError), claiming(files, claim("one", tmp_path)):
        raise DataError("the disk is full")
    assert names(claim_files(files, claim("two", tmp_path)).taken) == ["a.jsonl", "b.jsonl"]


def test_an_interrupted_job_that_runs_elsewhere_keeps_its_claims(files, tmp_path):
    with pytest.raises(KeyboardInterrupt), claiming(files, claim("one", tmp_path, is_local=False)):
        raise KeyboardInterrupt
    assert claim_files(files, claim("two", tmp_path)).taken == ()
    with pytest.raises(KeyboardInterrupt), claiming(files, claim("two", tmp_path), release=["one"]):
        raise KeyboardInterrupt
    assert names(claim_files(files, claim("three", tmp_path)).taken) == ["a.jsonl", "b.jsonl"]


def _gone():
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    ("fields", "is_free"),
    [
        ({"pid": "gone"}, True),
        ({"pid": "gone", "host": "elsewhere"}, False),
        ({"pid": "gone", "is_local": False}, False),
        ({}, False),
    ],
    ids=["killed", "other_machine", "remote_runner", "running"],
)
def test_claims_of_a_killed_replay_are_free_where_one_can_know(files, tmp_path, fields, is_free):
    fields = {**fields, **({"pid": _gone()} if "pid" in fields else {})}
    claim_files(files, claim("one", tmp_path, **fields))
    found = claim_files(files, claim("two", tmp_path))
    assert bool(found.taken) == is_free
    assert bool(claim_files(files, claim("three", tmp_path), release=["one"]).taken) == (not is_free)


def test_a_replay_that_published_before_it_was_killed_is_done(files, tmp_path, monkeypatch):
    claim_files(files, claim("one", tmp_path, pid=_gone()))
    monkeypatch.setattr(claims, "_is_published", lambda output, run_id: run_id == "one")
    assert names(claim_files(files, claim("two", tmp_path)).done) == ["a.jsonl", "b.jsonl"]
    monkeypatch.undo()
    assert names(claim_files(files, claim("two", tmp_path)).done) == ["a.jsonl", "b.jsonl"]


def test_an_error_behind_publication_does_not_give_back(files, tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "_is_published", lambda output, run_id: True)
    with pytest.raises(DataError), claiming(files, claim("one", tmp_path)):
        raise DataError("the summary cannot be printed")
    monkeypatch.undo()
    assert names(claim_files(files, claim("two", tmp_path)).done) == ["a.jsonl", "b.jsonl"]


def test_of_many_at_once_one_at_most_gets_a_file(files, tmp_path):
    for round_ in range(20):
        ready = threading.Barrier(4)
        found = {}

        def take(run_id, ready=ready, found=found):
            ready.wait()
            found[run_id] = claim_files(files, claim(run_id, tmp_path))

        threads = [threading.Thread(target=take, args=(f"{round_}-{number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for file in files:
            owners = [run_id for run_id, claimed in found.items() if file in claimed.taken]
            assert len(owners) <= 1
            claims.give_back([file], claim(owners[0], tmp_path)) if owners else None
        assert names(match_files([f"{tmp_path}/*"])) == ["a.jsonl", "b.jsonl"]


def test_a_claim_that_cannot_be_read_stands(files, tmp_path):
    (tmp_path / "a.jsonl.claim-one").write_text('{"run_')
    found = claim_files(files, claim("two", tmp_path))
    assert (names(found.taken), found.others) == (["b.jsonl"], {files[0].uri: "one"})


def test_files_that_cannot_be_claimed_are_refused(files, tmp_path, monkeypatch):
    def fail(*_):
        raise PermissionError("no")

    monkeypatch.setattr(claims, "_write", fail)
    with pytest.raises(DataError, match="cannot be claimed, which takes a file beside each: no"):
        claim_files(files, claim("one", tmp_path))


def test_names_of_claims():
    assert is_claim("dead_letters/part-00000-of-00001.jsonl.claim-20260101T000000Z-1a2b3c4d")
    assert not is_claim("dead_letters/part-00000-of-00001.jsonl")
