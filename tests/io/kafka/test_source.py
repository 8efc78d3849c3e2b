"""The URI of a Kafka source."""

import pytest

from penstock.io.errors import ConfigError
from penstock.io.kafka.source import KafkaSource


def test_a_uri_names_brokers_and_topics():
    source = KafkaSource.parse("kafka://a:9092,[::1]:9093/clicks,views.v-2_x")
    assert source == KafkaSource(("a:9092", "[::1]:9093"), ("clicks", "views.v-2_x"))
    assert source.address == "kafka://a:9092,[::1]:9093"
    assert source.uri("clicks") == "kafka://a:9092,[::1]:9093/clicks"
    assert source.uri("clicks", 7) == "kafka://a:9092,[::1]:9093/clicks/7"
    assert (source.start, source.stop, source.bounded) == ("earliest", "none", False)


def test_all_parameters():
    source = KafkaSource.parse(
        "kafka://a:9092/t?group=g&start=committed&stop=latest&key=user&headers=trace,tenant%26x&readers=7"
        "&schema_registry=https://r:8081/api&config=/etc/kafka.properties"
    )
    assert source == KafkaSource(
        ("a:9092",),
        ("t",),
        group="g",
        start="committed",
        stop="latest",
        key="user",
        headers=("trace", "tenant&x"),
        readers=7,
        schema_registry="https://r:8081/api",
        config="/etc/kafka.properties",
    )
    assert source.bounded


@pytest.mark.parametrize(
    ("path", "pattern", "matching", "others"),
    [
        ("orders-.*", "orders-.*", ["orders-", "orders-eu"], ["orders", "my-orders-eu"]),
        ("a|b", "a|b", ["a", "b"], ["ab", "ac"]),
        ("o-%5Bab%5D%7B1,2%7D", "o-[ab]{1,2}", ["o-a", "o-ab"], ["o-abc"]),
        ("o-[ab]{1,2}", "o-[ab]{1,2}", ["o-a", "o-ab"], ["o-abc"]),
        ("o(-eu)%3F", "o(-eu)?", ["o", "o-eu"], ["o-"]),
        (r"v\d+", r"v\d+", ["v12"], ["v", "va"]),
        ("(%3F!test).*", "(?!test).*", ["orders"], ["test-orders", "__consumer_offsets", "_schemas"]),
        ("_.*", "_.*", ["_schemas", "__consumer_offsets"], ["orders"]),
    ],
)
def test_patterns_match_whole_names(path, pattern, matching, others):
    source = KafkaSource.parse(f"kafka://a:9092/{path}?pattern=true&start=latest")
    assert (source.topics, source.pattern, source.start) == ((), pattern, "latest")
    assert [name for name in (*matching, *others) if source.matches(name)] == matching
    assert source.named(["u", "t"]) == KafkaSource(("a:9092",), ("u", "t"), start="latest")


def test_names_are_no_patterns():
    source = KafkaSource.parse("kafka://a:9092/o.s,t?pattern=false")
    assert (source.topics, source.pattern) == (("o.s", "t"), None)
    assert [source.matches(name) for name in ("o.s", "t", "o-s")] == [True, True, False]


@pytest.mark.parametrize(
    ("text", "millis"),
    [
        ("0", 0),
        ("1767225600123", 1767225600123),
        ("2026-01-01", 1767225600000),
        ("2026-01-01T00:00:00.123Z", 1767225600123),
        ("2026-01-01T01:00:00+01:00", 1767225600000),
    ],
)
def test_times(text, millis):
    assert KafkaSource.parse(f"kafka://a:1/t?start={text}").start == millis
    assert KafkaSource.parse(f"kafka://a:1/t?stop={text}").stop == millis


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("kafka://user:secret@a:9092/t", "must not hold credentials: settings of the client come from the environment"),
        ("kafka://a:9092/t?sasl.password=secret", "sasl.password is no parameter .* from the environment"),
        ("kafka://a:9092/t?schema_registry=http://u:secret@r", "schema_registry must not hold credentials"),
        ("kafka://a:9092/t?grop=secret", "'grop' is no parameter of a kafka:// URI; did you mean group"),
        (
            "kafka://a:9092/t?zzz=1",
            "'zzz' is no parameter of a kafka:// URI; the parameters are pattern, group, start, stop",
        ),
        ("http://a:9092/t", "must be kafka://HOST:PORT"),
        ("kafka:///t", "must be kafka://HOST:PORT"),
        ("kafka://a:9092/t#x", "must be kafka://HOST:PORT"),
        ("kafka://a/t", "a broker must be HOST:PORT, got 'a'"),
        ("kafka://a:9092,:1/t", "a broker must be HOST:PORT, got ':1'"),
        ("kafka://a:70000/t", "a broker must be HOST:PORT, got 'a:70000'"),
        ("kafka://a:9092", "a topic must be 1 to 249 letters, .* got ''"),
        ("kafka://a:9092/t/0", "a topic must be .* got 't/0'"),
        ("kafka://a:9092/t,,u", "a topic must be .* got ''"),
        ("kafka://a:9092/orders-.*", r"a topic must be .* got 'orders-\.\*'; .* add pattern=true"),
        ("kafka://a:9092/(a?pattern=true", r"pattern of topics '\(a' is no regular expression of Python: .*position 0"),
        ("kafka://a:9092/?pattern=true", "pattern=true needs a regular expression in place of the topic"),
        ("kafka://a:9092/a?-.*?pattern=true", r"ends at the first '\?', and '-\.\*\?pattern' .* %3F"),
        ("kafka://a:9092/a?pattern=yes", "pattern must be true or false, got 'yes'"),
        ("kafka://a:9092/..", "a topic must be .* got '..'"),
        ("kafka://a:9092/t,t", "a topic must be named once, got t, t"),
        ("kafka://a:9092/t?start=soon", "start must be earliest, latest, committed or a time .* got 'soon'"),
        ("kafka://a:9092/t?stop=earliest", "stop must be none, latest or a time .* got 'earliest'"),
        ("kafka://a:9092/t?start=committed", "start=committed needs group=NAME"),
        ("kafka://a:9092/t?start=20&stop=10", "stop must not be before start, got start=20 and stop=10"),
        ("kafka://a:9092/t?readers=two", "readers must be a number, got 'two'"),
        ("kafka://a:9092/t?readers=0", "readers must be >= 1, got 0"),
        ("kafka://a:9092/t?group=", "group needs a value: group="),
        ("kafka://a:9092/t?group=a&group=b", "group must be given once"),
        ("kafka://a:9092/t?headers=a,,b", "headers must be NAME,NAME, got 'a,,b'"),
        ("kafka://a:9092/t?headers=a,a", "column 'a' is named more than once"),
        ("kafka://a:9092/t?key=_origin", "column '_origin' is reserved by Penstock"),
        ("kafka://a:9092/t?schema_registry=r:80", "schema_registry must be a URL, .* got 'r:80'"),
    ],
)
def test_what_is_wrong_with_a_uri_is_said_without_secrets(uri, message):
    with pytest.raises(ConfigError, match=message) as raised:
        KafkaSource.parse(uri)
    assert "secret" not in str(raised.value)


def test_topics_and_a_pattern_do_not_go_together():
    with pytest.raises(ConfigError, match=r"name topics or a pattern, not both: got t, u and 'o\.\*'"):
        KafkaSource(("a:1",), ("t", "u"), "o.*")
