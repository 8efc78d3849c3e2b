"""Files as a source: what is known of patterns without Beam."""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.io.errors import ConfigError
from penstock.io.files.extras import check_filesystem
from penstock.io.files.paths import check_matches
from penstock.io.formats.registry import FORMATS, detect_format, suffix_options
from penstock.io.sources.base import Source, SourceRequest
from penstock.io.sources.registry import SCHEMES


class PatternKind:
    """Files that patterns match, on any filesystem that Beam knows; see `penstock.io.sources.base.SourceKind`."""

    def reach(self, uri: str, what: str) -> None:
        """Refuses a filesystem that nobody knows, or whose extra is missing."""
        check_filesystem(uri, what, sources=tuple(SCHEMES))

    def find(self, uri: str) -> None:
        """Refuses a local pattern that matches nothing."""
        check_matches(uri)

    def is_endless(self, request: SourceRequest) -> bool:
        """Whether the files are watched for."""
        return request.watch is not None

    def replay_format(self, inputs: Sequence[str]) -> tuple[str | None, Mapping[str, Any]]:
        """What the suffixes of the patterns tell."""
        try:
            entry = FORMATS[detect_format(inputs)]
            by_keyword = suffix_options(entry, inputs)
        except ConfigError:
            return None, {}
        flags = {option.keyword: option.flag for option in entry.options}
        return entry.name, {flags[keyword]: value for keyword, value in by_keyword.items()}

    def payload_settings(self, uri: str) -> Mapping[str, Any]:
        """None: all that reads a file is in the file and in the flags."""
        return {}

    def open(self, request: SourceRequest) -> Source:
        """The files that are there, or with `watch` those that come."""
        from penstock.io.sources.files import FileSource, WatchedSource

        return FileSource.open(request) if request.watch is None else WatchedSource.open(request)
