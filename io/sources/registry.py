"""The kinds of sources: one line for each scheme of a URI; what has none of them is a file.

A kind is one folder and one line in `SCHEMES`, which names its `SourceKind` (`penstock.io.sources.base`). Nothing heavy
is imported before a source is opened.
"""

from collections.abc import Mapping, Sequence

from penstock.io.formats.registry import load
from penstock.io.sources.base import Source, SourceKind, SourceRequest

# By scheme, `module:class`.
SCHEMES: Mapping[str, str] = {
    "kafka": "penstock.io.kafka.kind:KafkaKind",
}

# Patterns of files: plain paths, and URIs of any filesystem that Beam knows.
_FILES = "penstock.io.sources.patterns:PatternKind"


def scheme_of(uri: str) -> str | None:
    """The scheme in the table that a URI has; None for a file.

    >>> scheme_of("kafka://localhost:9092/t"), scheme_of("gs://b/kafka.csv")
    ('kafka', None)
    """
    scheme, separator, _ = uri.partition("://")
    return scheme if separator and scheme in SCHEMES else None


def kind_of(*uris: str) -> SourceKind:
    """The kind of some inputs; of mixed ones the first that is no file, which refuses what it does not go with."""
    scheme = next(filter(None, map(scheme_of, uris)), None)
    kind: SourceKind = load(SCHEMES[scheme] if scheme else _FILES)()
    return kind


def open_source(request: SourceRequest) -> Source:
    """The source that is asked for.

    Raises:
      ConfigError: when its kinds are mixed, no format is known, or a flag is for another kind or format.
      InputError: when a pattern matches no file, or a source does not answer.
      MissingExtraError: when the source needs an extra that is not installed.
    """
    kind = kind_of(*request.inputs)
    kind.is_endless(request)  # what does not go together is refused first
    return kind.open(request)


def payload_settings(uris: Sequence[str]) -> Mapping[str, object]:
    """Settings that decoding what dead letters hold takes from the URIs of a run's inputs, by keyword."""
    return next(filter(None, (kind_of(uri).payload_settings(uri) for uri in uris)), {})
