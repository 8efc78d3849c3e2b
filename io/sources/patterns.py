"""Files as a kind of source: the checks of patterns that do not need Beam."""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.io.errors import ConfigError
from penstock.io.files.extras import check_filesystem
from penstock.io.files.paths import check_matches, is_local
from penstock.io.formats.registry import FORMATS, detect_format, suffix_options
from penstock.io.sources.base import Source, SourceRequest
from penstock.io.sources.lists.lines import MARK, check_list, kind_of_list, list_path
from penstock.io.sources.registry import SCHEMES


class PatternKind:
    """Files that patterns match, on any filesystem that Beam knows; see `penstock.io.sources.base.SourceKind`."""

    def reach(self, uri: str, what: str) -> None:
        """Rejects an unknown filesystem, or one whose extra is missing."""
        path = list_path(uri)
        if path == "":
            raise ConfigError(f"{what}: names no list: write it as {MARK}FILE")
        check_filesystem(uri if path is None else path, what, sources=tuple(SCHEMES))

    def find(self, uri: str) -> None:
        """Rejects a local pattern that matches nothing, and a local list that is not there, or has such a pattern."""
        path = list_path(uri)
        if path is None:
            check_matches(uri, folders=True)
        elif is_local(path) and kind_of_list(path) != "folder":
            check_list(path)

    def is_endless(self, request: SourceRequest) -> bool:
        """Returns whether the job watches for files."""
        found = next(filter(list_path, request.inputs), None)
        if request.watch is not None and found is not None:
            raise ConfigError(f"--input {found} lists files that are there, and --watch looks for new ones: pass one")
        return request.watch is not None

    def replay_format(self, inputs: Sequence[str]) -> tuple[str | None, Mapping[str, Any]]:
        """Infers the format and options from the suffixes of the patterns; that of a list tells none."""
        if any(map(list_path, inputs)):
            return None, {}
        try:
            entry = FORMATS[detect_format(inputs)]
            by_keyword = suffix_options(entry, inputs)
        except ConfigError:
            return None, {}
        flags = {option.keyword: option.flag for option in entry.options}
        return entry.name, {flags[keyword]: value for keyword, value in by_keyword.items()}

    def payload_settings(self, uri: str) -> Mapping[str, Any]:
        """Returns no settings: files and flags hold all that is needed to read a file."""
        return {}

    def open(self, request: SourceRequest) -> Source:
        """Opens the files that exist now, or with `watch` the files as they arrive."""
        from penstock.io.sources.files import FileSource, WatchedSource

        return FileSource.open(request) if request.watch is None else WatchedSource.open(request)
