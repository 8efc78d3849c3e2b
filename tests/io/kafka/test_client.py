"""Settings of the Kafka client: where they come from, and that they go nowhere else."""

import base64
import bz2
import logging
import sys

import apache_beam as beam
import pytest
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from confluent_kafka import KafkaError
from mock_kafka import mock_kafka

from penstock.io.errors import ConfigError
from penstock.io.kafka.client import Troubles, client_settings, import_kafka, make_consumer, redact
from penstock.io.kafka.offsets import resolve_offsets
from penstock.io.kafka.read import ReadFromKafka
from penstock.io.kafka.source import KafkaSource
from penstock.io.messages.properties import read_properties

SOURCE = KafkaSource(("127.0.0.1:1",), ("t",))


@pytest.fixture
def properties(tmp_path):
    path = tmp_path / "client.properties"
    path.write_text(
        "# security\n! old style\n\nsasl.username = me\nsasl.password=a=b#c\nbootstrap.servers=elsewhere:1\n"
    )
    return str(path)


def test_settings_come_from_the_environment():
    environment = {"PENSTOCK_KAFKA_SASL_USERNAME": "me", "PENSTOCK_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "PATH": "/bin"}
    assert client_settings(None, environment) == {"sasl.username": "me", "security.protocol": "SASL_SSL"}


def test_settings_come_from_a_properties_file(properties):
    expected = {"sasl.username": "me", "sasl.password": "a=b#c", "bootstrap.servers": "elsewhere:1"}
    assert client_settings(properties, {}) == expected
    assert client_settings(None, {"PENSTOCK_KAFKA_CONFIG": properties}) == expected


def test_the_environment_goes_before_the_file(properties):
    settings = client_settings(properties, {"PENSTOCK_KAFKA_SASL_USERNAME": "you", "PENSTOCK_KAFKA_CONFIG": "nowhere"})
    assert (settings["sasl.username"], settings["sasl.password"]) == ("you", "a=b#c")


def test_a_properties_file_that_is_none(tmp_path):
    with pytest.raises(ConfigError, match=r"the client settings .*nowhere cannot be read: FileNotFoundError"):
        read_properties(str(tmp_path / "nowhere"))
    path = tmp_path / "bad"
    path.write_text("a=1\nhunter2\n")
    with pytest.raises(ConfigError, match=r"the client settings .*bad:2 must be NAME=VALUE$"):
        read_properties(str(path))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("NO_SUCH", "hunter2", r'refuses its settings: No such configuration property: "no.such"'),
        ("SECURITY_PROTOCOL", "TSL", r'Invalid value "TSL" for configuration property "security.protocol"'),
        (
            "SASL_JAAS_CONFIG",
            "hunter2",
            r"sasl.jaas.config is a setting of Java clients, librdkafka's are sasl.username",
        ),
    ],
)
def test_settings_that_the_client_refuses(monkeypatch, name, value, message):
    monkeypatch.setenv(f"PENSTOCK_KAFKA_{name}", value)
    with pytest.raises(ConfigError, match=message) as raised:
        make_consumer(SOURCE, Troubles(SOURCE.address))
    assert "hunter2" not in str(raised.value)


def test_what_may_be_secret_is_not_shown():
    settings = {"sasl.password": "hunter2", "ssl.key.pem": "hunter2222", "client.id": "job", "sasl.username": ""}
    assert redact("hunter2222, hunter2, job", settings) == "***, ***, job"


def test_brokers_and_group_are_those_of_the_uri(monkeypatch):
    with mock_kafka() as kafka:
        kafka.send("t", [{"value": b"{}", "partition": 0}])
        monkeypatch.setenv("PENSTOCK_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
        assert len(resolve_offsets(KafkaSource.parse(kafka.uri("t")), timeout=5)) == 4


def graph_bytes(pipeline):
    """The graph with what is packed in it: Beam's pickles are compressed."""
    proto = pipeline.to_runner_api()
    pardos = [
        beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
        for transform in proto.components.transforms.values()
        if transform.spec.urn == common_urns.primitives.PAR_DO.urn
    ]
    return b"".join(
        [proto.SerializeToString(), *(bz2.decompress(base64.b64decode(pardo.do_fn.payload)) for pardo in pardos)]
    )


def test_secrets_are_in_no_graph_log_or_repr(monkeypatch, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "client.properties"
    path.write_text("sasl.password=correct-horse\n")
    monkeypatch.setenv("PENSTOCK_KAFKA_SSL_KEY_PASSWORD", "battery-staple")
    with mock_kafka() as kafka:
        kafka.send("t", [{"value": b"{}", "partition": 0}])
        transform = ReadFromKafka(kafka.uri("t", stop="latest", config=path, group="g"))
        pipeline = beam.Pipeline()
        _ = pipeline | transform
    graph = graph_bytes(pipeline)
    shown = caplog.text + repr(transform) + repr(KafkaSource.parse(transform.source)) + repr(vars(transform))
    for secret in ("correct-horse", "battery-staple"):
        assert secret.encode() not in graph
        assert secret not in shown
    assert str(path).encode() in graph, "the name of the file is all that travels"


def test_troubles_are_warned_of_now_and_then_and_the_last_is_kept(caplog):
    troubles = Troubles("kafka://a:1")
    for _ in range(5):
        troubles.report(KafkaError(KafkaError._TRANSPORT, "refused"))
        troubles.report(KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 down"))
    assert [record.getMessage() for record in caplog.records] == [
        "kafka://a:1: _TRANSPORT: refused",
        "kafka://a:1: _ALL_BROKERS_DOWN: 1/1 down",
    ]
    assert (troubles.last, troubles.denied) == ("_TRANSPORT: refused", None)
    troubles.report(KafkaError(KafkaError._AUTHENTICATION, "wrong password"))
    assert troubles.denied == "_AUTHENTICATION: wrong password"
    troubles.clear()
    assert (troubles.last, troubles.denied) == (None, None)


def test_a_guess_of_the_client_is_kept():
    troubles = Troubles("kafka://a:1")
    troubles.report(KafkaError(KafkaError._TRANSPORT, "disconnected: connecting to a PLAINTEXT broker listener?"))
    troubles.report(KafkaError(KafkaError._TRANSPORT, "disconnected"))
    assert troubles.last == "_TRANSPORT: disconnected: connecting to a PLAINTEXT broker listener?"


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(ImportError, match=r"pip install '.\[kafka\]'"):
        import_kafka()
