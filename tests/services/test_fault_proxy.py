"""The fault proxy passes what no plan is about as it is, and fails as planned: before a small web server."""

import concurrent.futures
import http.client
import socket
import time
import urllib.parse

import pytest
from services.fault_proxy.client import FaultProxy, fault_proxy
from services.fault_proxy.plan import Fault
from services.web_server import web_server

BODY = bytes(range(256)) * 400


@pytest.fixture(scope="module")
def server():
    with web_server() as found:
        yield found


@pytest.fixture(scope="module")
def running(server, tmp_path_factory):
    with fault_proxy(server.endpoint, tmp_path_factory.mktemp("proxy")) as found:
        yield found


@pytest.fixture
def proxy(running, server) -> FaultProxy:
    """With no plan, and nothing counted."""
    server.objects.clear()
    server.received = server.connections = 0
    running.plan()
    running.count_anew()
    return running


@pytest.fixture
def connect(proxy):
    """Opens a connection to the proxy."""
    opened = []

    def make() -> http.client.HTTPConnection:
        opened.append(http.client.HTTPConnection(urllib.parse.urlsplit(proxy.endpoint).netloc, timeout=20))
        return opened[-1]

    yield make
    for connection in opened:
        connection.close()


@pytest.fixture
def ask(connect):
    """Sends a request on a connection of its own: status, headers and body of the answer."""

    def send(method, path, body=None, headers=(), connection=None, **options):
        connection = connection or connect()
        connection.request(method, path, body, dict(headers), **options)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()

    return send


def socket_of(connection: http.client.HTTPConnection) -> socket.socket:
    connection.connect()
    return connection.sock


def test_bodies_pass_as_they_are(ask, server, proxy):
    assert ask("PUT", "/b/key", BODY, {"Content-Type": "text/x"})[::2] == (200, b"text/x")
    assert server.objects == {"/b/key": BODY}
    assert ask("GET", "/b/key")[::2] == (200, BODY)
    status, headers, body = ask("HEAD", "/b/key")
    assert (status, headers["Content-Length"], body) == (200, str(len(BODY)), b"")
    assert ask("GET", "/b/none")[::2] == (404, b"no such object")
    passed = proxy.passed()
    assert passed.requests == {"put": 1, "get": 2, "head": 1}
    assert (passed.bytes_in, passed.bytes_out) == (len(BODY), len(BODY) + len(b"text/x") + len(b"no such object"))
    assert passed.log[0] == ["PUT", "/b/key", "put", 200, []]
    assert (passed.failures, passed.total, passed.now) == ([], 4, 0)


@pytest.mark.parametrize("size", [0, 1, 7, 100_000])
def test_bodies_in_chunks_and_to_the_end_of_a_connection(ask, server, size):
    pieces = [BODY[start : min(size, start + 30_000)] for start in range(0, size, 30_000)]
    assert ask("PUT", "/b/key", iter(pieces), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})[0] == 200
    assert server.objects["/b/key"] == BODY[:size]
    for path in ("/closed", "/chunked"):
        server.objects[path] = BODY[:size] or b"with a body"
        assert ask("GET", path)[2] == (BODY[:size] or b"with a body")


def test_one_connection_serves_many_requests(ask, connect, server):
    connection = connect()
    for number in range(5):
        assert ask("PUT", f"/b/{number}", b"x" * number, connection=connection)[0] == 200
    assert ask("GET", "/b/4", connection=connection)[2] == b"xxxx"
    assert server.connections == 1


def test_a_body_is_passed_on_before_its_end_has_come(connect, server):
    connection = connect()
    connection.putrequest("PUT", "/b/key")
    connection.putheader("Content-Length", str(len(BODY)))
    connection.endheaders(BODY[:50_000])
    wait_for(lambda: server.received == 50_000)
    connection.send(BODY[50_000:])
    assert connection.getresponse().read() == b""
    assert server.objects["/b/key"] == BODY


def wait_for(is_true):
    deadline = time.monotonic() + 20
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


EXPECTING = b"PUT /b/key HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\nIf-None-Match: *\r\n\r\n"


def test_a_client_waits_until_the_store_asks_for_the_body(connect, server):
    with socket_of(connect()) as opened:
        opened.sendall(EXPECTING)
        assert opened.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        opened.sendall(b"12345")
        assert opened.recv(1000).startswith(b"HTTP/1.1 200 OK")
    assert server.objects == {"/b/key": b"12345"}


def test_a_store_may_refuse_before_it_asks_for_the_body(connect, server):
    server.objects["/b/key"] = b"old"
    with socket_of(connect()) as opened:
        opened.sendall(EXPECTING)
        answer = read_to_end(opened)
    assert answer.startswith(b"HTTP/1.1 412")
    assert answer.endswith(b"it is there")
    assert server.objects == {"/b/key": b"old"}


def read_to_end(opened: socket.socket) -> bytes:
    return b"".join(iter(lambda: opened.recv(1000), b""))


def test_many_connections_at_once_wait_side_by_side(ask, proxy):
    proxy.plan(Fault("latency", seconds=0.3))
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        found = list(pool.map(lambda number: ask("PUT", f"/b/{number}", BODY)[0], range(80)))
    assert found == [200] * 80
    assert 0.6 < time.monotonic() - began < 10
    assert proxy.passed().most_at_once == 40


def test_latency_varies_by_its_jitter(ask, proxy):
    proxy.plan(Fault("latency", seconds=0.1, jitter=0.1))
    began = time.monotonic()
    assert ask("PUT", "/b/key", b"x")[0] == 200
    assert time.monotonic() - began > 0.1


@pytest.mark.parametrize("retry_after", [None, 2])
def test_a_status_in_place_of_the_store(ask, connect, server, proxy, retry_after):
    proxy.plan(Fault("status", status=429, retry_after=retry_after, kinds=("put",), first=1))
    connection = connect()
    status, headers, _ = ask("PUT", "/b/key", BODY, connection=connection)
    assert (status, headers["Retry-After"]) == (429, None if retry_after is None else "2")
    assert server.objects == {}
    assert ask("PUT", "/b/key", BODY, connection=connection)[0] == 200
    assert proxy.passed().faults == {"status": 1}
    assert [entry[3:] for entry in proxy.passed().log] == [[429, ["status"]], [200, []]]


def test_a_status_before_a_body_is_asked_for(connect, proxy):
    proxy.plan(Fault("status"))
    with socket_of(connect()) as opened:
        opened.sendall(EXPECTING)
        assert read_to_end(opened).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")


def test_a_refused_head_has_no_body(ask, connect, proxy):
    proxy.plan(Fault("status", status=500, first=1))
    connection = connect()
    assert ask("HEAD", "/b/key", connection=connection)[0] == 500
    assert ask("GET", "/b/none", connection=connection)[0] == 404


@pytest.mark.parametrize(
    ("fault", "kept"),
    [
        (Fault("reset_before"), None),
        (Fault("reset_during"), None),
        (Fault("reset_during", size=1000), None),
        (Fault("reset_during", size=len(BODY)), None),
        (Fault("hang", seconds=0.1), None),
        (Fault("reset_after"), BODY),
    ],
    ids=str,
)
def test_resets_of_a_write(ask, server, proxy, fault, kept):
    server.objects.clear()
    proxy.plan(fault)
    with pytest.raises(ConnectionResetError):
        ask("PUT", "/b/key", BODY)
    if fault.action == "reset_during" and fault.size < len(BODY):
        wait_for(lambda: server.received == fault.size)
    if fault.size < len(BODY):
        assert server.objects.get("/b/key") == kept
    assert proxy.passed().failures == []


def test_a_hang_lasts_as_long_as_planned(ask, proxy):
    proxy.plan(Fault("hang", seconds=0.3))
    began = time.monotonic()
    with pytest.raises(ConnectionResetError):
        ask("GET", "/b/key")
    assert time.monotonic() - began > 0.3


@pytest.mark.parametrize("path", ["/b/key", "/chunked"])
def test_an_answer_ends_too_early(ask, server, proxy, path):
    server.objects[path] = BODY
    proxy.plan(Fault("truncate", size=90_000))
    with pytest.raises(http.client.IncompleteRead) as truncated:
        ask("GET", path)
    assert truncated.value.partial == BODY[:90_000] or path == "/chunked"
    proxy.plan(Fault("truncate", size=len(BODY) + 5))
    with pytest.raises(http.client.IncompleteRead) if path == "/b/key" else pytest.raises(http.client.HTTPException):
        ask("GET", path)


def test_an_answer_is_reset_within_its_body(ask, server, proxy):
    server.objects["/b/key"] = BODY
    proxy.plan(Fault("reset_body", size=10))
    with pytest.raises(ConnectionResetError):
        ask("GET", "/b/key")


def test_an_answer_is_shorter_and_says_so(ask, connect, server, proxy):
    server.objects["/b/key"] = BODY
    proxy.plan(Fault("shorten", size=10, first=1))
    connection = connect()
    status, headers, body = ask("GET", "/b/key", connection=connection)
    assert (status, headers["Content-Length"], body) == (200, "10", BODY[:10])
    assert ask("GET", "/b/key", connection=connection)[2] == BODY


@pytest.mark.parametrize("size", [0, 3, 70_000, len(BODY) - 1, len(BODY) + 9])
def test_one_bit_is_wrong(ask, server, proxy, size):
    at = min(size, len(BODY) - 1)
    wrong = BODY[:at] + bytes([BODY[at] ^ 1]) + BODY[at + 1 :]
    proxy.plan(Fault("corrupt", size=size, kinds=("put",)))
    assert ask("PUT", "/b/key", BODY)[0] == 200
    assert server.objects == {"/b/key": wrong}
    server.objects["/b/key"] = BODY
    proxy.plan(Fault("corrupt", size=size, kinds=("get",)))
    assert ask("GET", "/b/key")[2] == wrong


@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_slow_bodies(ask, server, proxy, method):
    server.objects["/b/key"] = BODY
    proxy.plan(Fault("slow", bytes_per_second=250_000))
    began = time.monotonic()
    assert ask(method, "/b/key", BODY if method == "PUT" else None)[2] == (b"" if method == "PUT" else BODY)
    assert 0.35 < time.monotonic() - began < 5


def test_a_delay_and_a_failure_together(ask, proxy):
    proxy.plan(Fault("latency", seconds=0.2), Fault("status", status=500), Fault("reset_before"))
    began = time.monotonic()
    assert ask("GET", "/b/key")[0] == 500
    assert time.monotonic() - began > 0.2
    assert proxy.passed().faults == {"latency": 1, "status": 1}


def test_a_plan_changes_while_requests_go_on(ask, proxy):
    proxy.plan(Fault("status"))
    assert ask("GET", "/b/key")[0] == 503
    proxy.plan()
    assert ask("GET", "/b/key")[0] == 404
    assert proxy.count_anew().total == 2
    assert proxy.passed().total == 0


def test_a_client_that_goes_away_leaves_no_object(connect, server, proxy):
    connection = connect()
    connection.putrequest("PUT", "/b/key")
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b"x" * 500)
    wait_for(lambda: server.received == 500)
    connection.close()
    wait_for(lambda: proxy.passed().now == 0)
    assert server.objects == {}
    assert proxy.passed().failures == []


def test_a_server_that_is_gone_is_no_planned_failure(tmp_path):
    with web_server() as server, fault_proxy(server.endpoint, tmp_path) as proxy:
        server.shutdown()
        server.server_close()
        with socket_of(http.client.HTTPConnection(urllib.parse.urlsplit(proxy.endpoint).netloc, timeout=20)) as opened:
            opened.sendall(b"GET /b/k HTTP/1.1\r\nHost: x\r\n\r\n")
            with pytest.raises(ConnectionResetError):
                opened.recv(1)
        (failure,) = proxy.passed().failures
    assert failure.startswith("GET /b/k: ")
    assert "Connect call failed" in failure
