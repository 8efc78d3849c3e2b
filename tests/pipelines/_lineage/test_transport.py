"""Events on their way: what a server or a disk may do to them, and that no job waits for it."""

import json
import logging
import socket
import threading

import pytest
from lineage_server import lineage_server

from pipelines._lineage import transport
from pipelines._lineage.transport import Delivery, FileTransport, HttpTransport

EVENT = {"eventType": "START", "name": "é\udcff"}


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch):
    monkeypatch.setattr(transport, "_WAITS_SECONDS", (0.0, 0.0))


@pytest.fixture
def server():
    with lineage_server() as server:
        yield server


def test_an_event_is_posted_with_the_key(server):
    HttpTransport(f"{server.url}/api/v1/lineage", "secret", timeout=60).send(EVENT)
    ((path, headers),) = server.requests
    assert server.events == [EVENT]
    assert path == "/api/v1/lineage"
    assert headers["Authorization"] == "Bearer secret"
    assert headers["Content-Type"] == "application/json"


def test_without_a_key_there_is_none(server):
    HttpTransport(server.url, timeout=60).send(EVENT)
    assert "Authorization" not in server.requests[0][1]


@pytest.mark.parametrize("code", [500, 503, 429])
def test_a_server_in_trouble_is_tried_again(server, code):
    server.answers = [code, code]
    HttpTransport(server.url, timeout=60).send(EVENT)
    assert (len(server.requests), server.events) == (3, [EVENT])


@pytest.mark.parametrize(("code", "tries"), [(500, 3), (401, 1), (302, 1), (307, 1)])
def test_what_is_refused_is_an_error_and_goes_nowhere_else(server, code, tries):
    server.answers = [code] * 5
    with pytest.raises(OSError, match=f"the server answers {code} "):
        HttpTransport(server.url, "secret", timeout=60).send(EVENT)
    assert [path for path, _ in server.requests] == ["/"] * tries or len(server.requests) == tries
    assert not any(path == "/elsewhere" for path, _ in server.requests)


def test_a_server_that_does_not_listen_is_an_error():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="refused"):
            HttpTransport(f"http://127.0.0.1:{port}").send(EVENT)


def test_a_server_that_does_not_answer_is_given_up(server):
    server.hold.clear()
    with pytest.raises(OSError, match="timed out"):
        HttpTransport(server.url, timeout=0.01).send(EVENT)


def test_events_arrive_in_their_order(server):
    delivery = Delivery([HttpTransport(server.url, timeout=60)], finish_seconds=60)
    for number in range(20):
        delivery.put({"number": number})
    assert delivery.finish()
    assert [event["number"] for event in server.events] == [*range(20)]


def test_a_job_does_not_wait_for_a_server_that_hangs_and_says_so(server, caplog):
    server.hold.clear()
    delivery = Delivery([HttpTransport(server.url, "secret", timeout=60)], finish_seconds=0.0)
    delivery.put(EVENT)
    with caplog.at_level(logging.WARNING):
        assert not delivery.finish()
    assert f"OpenLineage: 1 of 1 events did not reach {server.url}: no answer" in caplog.text
    assert "secret" not in caplog.text


def test_one_way_that_fails_does_not_stop_the_other(tmp_path, server, caplog):
    server.answers = [404]
    path = tmp_path / "events.jsonl"
    delivery = Delivery([HttpTransport(server.url, timeout=60), FileTransport(str(path))], finish_seconds=60)
    delivery.put(EVENT)
    assert not delivery.finish()
    assert "the server answers 404" in caplog.text
    assert len(path.read_text(errors="surrogateescape").splitlines()) == 1


def test_lines_of_several_runs_do_not_mix(tmp_path):
    path = str(tmp_path / "new" / "events.jsonl")
    runs = [
        threading.Thread(target=lambda run=run: [FileTransport(path).send({"run": run}) for _ in range(50)])
        for run in range(4)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    found = [json.loads(line)["run"] for line in (tmp_path / "new" / "events.jsonl").read_text().splitlines()]
    assert sorted(found) == sorted([*range(4)] * 50)


def test_a_full_disk_leaves_no_part_of_a_line(tmp_path, monkeypatch):
    path = tmp_path / "events.jsonl"
    FileTransport(str(path)).send({"number": 1})
    before = path.read_bytes()
    write = transport.os.write
    monkeypatch.setattr(transport.os, "write", lambda file, line: write(file, line[:5]))
    with pytest.raises(OSError, match="no space is left for a whole line"):
        FileTransport(str(path)).send({"number": 2})
    assert path.read_bytes() == before
