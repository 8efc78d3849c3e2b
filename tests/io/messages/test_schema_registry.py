import base64
import contextlib
import http.server
import json
import pickle
import threading

import pytest

from penstock.io.errors import ConfigError, DataError
from penstock.io.messages import schema_registry
from penstock.io.messages.schema_registry import SchemaFault, SchemaRegistry, inline, registry_settings

ADDRESS = {"type": "record", "name": "com.x.Address", "fields": [{"name": "city", "type": "string"}]}
TRIP = {
    "type": "record",
    "name": "Trip",
    "namespace": "com.x",
    "fields": [
        {"name": "from", "type": "com.x.Address"},
        {"name": "to", "type": ["null", "Address"]},
        {"name": "stops", "type": {"type": "array", "items": "com.x.Address"}},
    ],
}


@contextlib.contextmanager
def registry(answers):
    """A registry that gives `answers[path]`: an object, or a status; what it was asked goes into the list."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Authorization")))
            answer = answers.get(self.path, 404)
            if isinstance(answer, list):
                answer = answer.pop(0)
            status = answer if isinstance(answer, int) else 200
            body = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *unused):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()


def avro(schema, **more):
    return {"schema": json.dumps(schema), **more}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(schema_registry, "_PAUSES", (0.0, 0.0))


def test_a_schema_is_fetched_by_id():
    with registry({"/schemas/ids/7": avro(ADDRESS), "/api/schemas/ids/8": avro(ADDRESS, schemaType="AVRO")}) as (
        url,
        _,
    ):
        assert SchemaRegistry(url + "/").schema(7) == ADDRESS
        assert SchemaRegistry(url + "/api").schema(8) == ADDRESS


def test_references_are_put_in():
    answers = {
        "/schemas/ids/1": avro(TRIP, references=[{"name": "com.x.Address", "subject": "a/b", "version": 2}]),
        "/subjects/a%2Fb/versions/2": avro(ADDRESS),
    }
    with registry(answers) as (url, _):
        fields = SchemaRegistry(url).schema(1)["fields"]
    assert fields[0]["type"] == ADDRESS
    assert [fields[1]["type"], fields[2]["type"]["items"]] == [["null", "Address"], "com.x.Address"]
    import fastavro

    assert fastavro.parse_schema(inline(TRIP, {"com.x.Address": ADDRESS}))["name"] == "com.x.Trip"


def test_a_name_that_the_schema_defines_itself_stays():
    schema = {"type": "record", "name": "a.b", "fields": [{"name": "x", "type": ["null", "a.b"]}]}
    assert inline(schema, {"a.b": ADDRESS}) == schema


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (404, "/schemas/ids/7: the schema registry has no such schema"),
        (avro({}, schemaType="PROTOBUF"), "schema 7 of .* is PROTOBUF; only Avro is read"),
    ],
)
def test_no_schema(answer, message):
    with registry({"/schemas/ids/7": answer}) as (url, asked), pytest.raises(SchemaFault, match=message):
        SchemaRegistry(url).schema(7)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("answer", "message", "times"),
    [
        (500, "/schemas/ids/7: the schema registry does not answer: HTTP 500", 3),
        (429, "does not answer: HTTP 429", 3),
        (302, "does not answer: HTTP 302", 1),
        (401, r"refuses the client \(HTTP 401\); check PENSTOCK_SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO", 1),
        ("<html>", "does not answer", 3),
        ("[]", "the answer is no JSON object", 3),
        ({}, "holds no schema", 1),
    ],
)
def test_no_answer(answer, message, times):
    with registry({"/schemas/ids/7": answer}) as (url, asked), pytest.raises(DataError, match=message):
        SchemaRegistry(url).schema(7)
    assert len(asked) == times


def test_nobody_listens():
    with registry({}) as (url, _):
        pass
    with pytest.raises(DataError, match=rf"{url}/schemas/ids/7: the schema registry does not answer: .*refused"):
        SchemaRegistry(url).schema(7)


def test_it_is_asked_again():
    with registry({"/schemas/ids/7": [503, avro(ADDRESS)]}) as (url, asked):
        assert SchemaRegistry(url).schema(7) == ADDRESS
    assert len(asked) == 2


def test_credentials_come_from_the_environment_and_are_not_kept(monkeypatch):
    monkeypatch.setenv("PENSTOCK_SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO", "me:hunter2")
    with registry({"/schemas/ids/7": avro(ADDRESS), "/schemas/ids/8": 403}) as (url, asked):
        client = SchemaRegistry(url)
        assert client.schema(7) == ADDRESS
        assert b"hunter2" not in pickle.dumps(client)
        with pytest.raises(DataError) as caught:
            client.schema(8)
        assert "hunter2" not in str(caught.value)
        monkeypatch.setenv("PENSTOCK_SCHEMA_REGISTRY_BEARER_AUTH_TOKEN", "token")
        SchemaRegistry(url).schema(7)
    basic = "Basic " + base64.b64encode(b"me:hunter2").decode()
    assert [value for _, value in asked] == [basic, basic, "Bearer token"]


def test_settings_of_a_file(tmp_path):
    file = tmp_path / "client.properties"
    file.write_text("sasl.username=u\nschema.registry.url=http://a\nschema.registry.basic.auth.user.info=a:b\n")
    assert registry_settings(str(file), {}) == {"basic.auth.user.info": "a:b"}
    assert registry_settings(None, {"PENSTOCK_KAFKA_CONFIG": str(file)}) == {"basic.auth.user.info": "a:b"}
    environment = {"PENSTOCK_SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO": "c:d"}
    assert registry_settings(str(file), environment) == {"basic.auth.user.info": "c:d"}
    assert registry_settings(None, {}) == {}


def test_settings_that_nobody_knows():
    with pytest.raises(ConfigError, match="user is no setting of the schema registry; they are basic"):
        registry_settings(None, {"PENSTOCK_SCHEMA_REGISTRY_USER": "x"})


def test_certificates_that_are_not_there(monkeypatch):
    monkeypatch.setenv("PENSTOCK_SCHEMA_REGISTRY_SSL_CA_LOCATION", "/nowhere/ca.pem")
    with pytest.raises(ConfigError, match="certificates of the schema registry cannot be read"):
        SchemaRegistry("https://localhost:1").schema(1)
