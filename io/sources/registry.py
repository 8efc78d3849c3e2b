"""The kinds of sources, one entry for each scheme of a URI; an input with no such scheme is a file.

A kind is one folder and one entry in `SCHEMES`, which names its `SourceKind` (`penstock.io.sources.base`). Heavy
modules are imported only when a source is opened.
"""

from collections.abc import Mapping, Sequence

from penstock.io.formats.registry import load
from penstock.io.sources.base import Source, SourceKind, SourceRequest

# Scheme to `module:class`.
SCHEMES: Mapping[str, str] = {
    "kafka": "penstock.io.kafka.kind:KafkaKind",
}

# Patterns of files: plain paths, and URIs of any filesystem that Beam knows.
_FILES = "penstock.io.sources.patterns:PatternKind"


def scheme_of(uri: str) -> str | None:
    """Returns the scheme of a URI if `SCHEMES` has it; None for a file.

    >>> scheme_of("kafka://localhost:9092/t"), scheme_of("gs://b/kafka.csv")
    ('kafka', None)
    """
    scheme, separator, _ = uri.partition("://")
    return scheme if separator and scheme in SCHEMES else None


def kind_of(*uris: str) -> SourceKind:
    """Returns the kind of some inputs; if they are mixed, the first one that is not of files: it rejects the others."""
    scheme = next(filter(None, map(scheme_of, uris)), None)
    kind: SourceKind = load(SCHEMES[scheme] if scheme else _FILES)()
    return kind


def open_source(request: SourceRequest) -> Source:
    """Opens the requested source.

    Raises:
      ConfigError: when kinds are mixed, the format is unknown, or a flag is for another kind or format.
      InputError: when a pattern matches no file, or a source does not answer.
      MissingExtraError: when the source needs an extra that is not installed.
    """
    kind = kind_of(*request.inputs)
    kind.is_endless(request)  # first raises for flags that contradict each other
    return kind.open(request)


def payload_settings(uris: Sequence[str]) -> Mapping[str, object]:
    """Returns the settings for decoding the payloads of dead letters, by keyword, from the URIs of a run's inputs."""
    return next(filter(None, (kind_of(uri).payload_settings(uri) for uri in uris)), {})
