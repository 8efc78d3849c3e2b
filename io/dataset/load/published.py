"""What is published in a dataset while it is followed: windows and spans, each once, in the order of publication.

Of a window, its late rows are a part of their own if it is read before they are published: shards that a newer version
of its manifest names. Windows that are put together (`WindowSet`) are read as a set if none of them was read before.
What is read is remembered in few words: windows of a fixed size that follow each other are a run, from a start to an
end.

Ranks that share what they find look each for itself, some before late rows come, and others after. So their parts are
what was written at once: the rows of a window that were on time, its late ones, each span. Sets are not read.
"""

import abc
import bisect
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from penstock.io.beam.windows import parse_time_name
from penstock.io.dataset.load.shards.contents import StoredShard, parse_manifest, read_version_of
from penstock.io.dataset.load.shards.files import entries_below, join, read_if_there
from penstock.io.dataset.options import COMPACTED, MANIFEST, WINDOWS
from penstock.io.errors import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class Part:
    """Something that was published.

    Attributes:
      shards: of all splits.
      after: what `Published.add` is told once it is read: JSON values.
    """

    shards: tuple[StoredShard, ...]
    after: Mapping[str, Any]


class Published(abc.ABC):
    """What is published in a dataset, and was not read before.

    Args:
      directory: of the dataset.
      is_shared: whether parts are the same for all who look, whenever they do.

    Attributes:
      is_complete: whether all that will ever be published was there at the last look.
    """

    is_complete = False

    def __init__(self, directory: str, is_shared: bool = False):
        self._directory = directory
        self._is_shared = is_shared

    @abc.abstractmethod
    def look(self) -> Iterator[Part]:
        """Yields what is new; what is not told to `add` afterwards comes again.

        Raises:
          DataError: for a manifest that is damaged, or a dataset that is not the one that was read before.
        """

    @abc.abstractmethod
    def add(self, after: Mapping[str, Any]) -> None:
        """Notes that a part is read."""

    @abc.abstractmethod
    def state(self) -> Any:
        """Returns what is read, as JSON values."""

    @abc.abstractmethod
    def load_state(self, state: Any) -> None:
        """Goes on from a state.

        Raises:
          KeyError, TypeError, ValueError: when it is none.
        """


class PublishedWindows(Published):
    """Windows: those of a stream, which come as they are closed, and again with late rows."""

    def __init__(self, directory: str, is_shared: bool = False):
        super().__init__(directory, is_shared)
        self._read = _Names()
        # Of windows that are not final: the paths of the shards that were read.
        self._open: dict[str, tuple[str, ...]] = {}
        self._seen: dict[str, tuple[int, float]] = {}
        self._sets: dict[str, tuple[tuple[int, float], Mapping[str, Any]]] = {}
        # As manifests say; 0 of a stream, or of windows that were gone on with.
        self._in_all: int | None = None

    def look(self) -> Iterator[Part]:
        """One listing; manifests are read that are new or, of windows that are not final, have changed."""
        found, sets = [], [] if self._is_shared else self._read_sets()
        compacted = {name for fields in sets for name in fields["parts"]}
        for fields in sets:
            if not any(name in self._read or name in self._open for name in fields["parts"]):
                found.append((fields["created"], fields["window"], Part(fields["shards"], _after_set(fields))))
            else:
                compacted.difference_update(fields["parts"])
        entries = {
            file.removesuffix(".json"): entry
            for file, entry in entries_below(join(self._directory, WINDOWS)).items()
            if file.endswith(".json")
        }
        for name, entry in entries.items():
            if name in compacted or name in self._read:
                continue
            if name in self._open and self._seen.get(name) == entry:
                continue
            manifest = self._manifest(name)
            if manifest is not None:
                self._seen[name] = entry
                found += [(manifest["created"], manifest["window"], part) for part in self._parts(name, manifest)]
        yield from (part for _, _, part in sorted(found, key=lambda one: one[:2]))
        if self._in_all is None and entries:  # all are read, or in sets
            self._manifest(next(iter(entries)))
        self.is_complete = 0 < (self._in_all or 0) <= len(entries)

    def _manifest(self, name: str) -> Mapping[str, Any] | None:
        fields = _fields(join(self._directory, f"{WINDOWS}/{name}.json"))
        if fields is not None:
            in_all = fields["windows_in_all"]
            self._in_all = min(in_all, self._in_all or in_all) if self._in_all != 0 else 0
        return fields

    def _read_sets(self) -> list[Mapping[str, Any]]:
        for file, entry in entries_below(join(self._directory, COMPACTED)).items():
            if file not in self._sets or self._sets[file][0] != entry:
                fields = _fields(join(self._directory, f"{COMPACTED}/{file}"))
                if fields is not None:
                    self._sets[file] = entry, fields
        return [fields for _, fields in self._sets.values()]

    def _parts(self, name: str, fields: Mapping[str, Any]) -> Iterator[Part]:
        """The shards of a window that were not read; nothing where there are none, and nothing else has changed."""
        read, shards = self._open.get(name), fields["shards"]
        paths = [shard.path for shard in shards]
        gone = {*(read or ())}.difference(paths)
        if gone:
            raise DataError(
                f"{self._directory}: window {name} was published again without {min(gone)}, which was read already: "
                "its rows are others now, begin anew"
            )
        new = tuple(shard for shard in shards if shard.path not in (read or ()))
        if not new and read is not None and not fields["final"]:
            return
        is_fixed = fields["windows"].startswith("fixed:")
        late = tuple(shard for shard in new if _is_late(shard))
        if self._is_shared and 0 < len(late) < len(new):
            on_time = tuple(shard for shard in new if not _is_late(shard))
            after = {"windows": [name], "final": False, "fixed": is_fixed, "paths": [one.path for one in on_time]}
            yield Part(on_time, after)
            new = late
        yield Part(new, {"windows": [name], "final": fields["final"], "fixed": is_fixed, "paths": paths})

    def add(self, after: Mapping[str, Any]) -> None:
        """Notes a window, or those of a set."""
        for name in after["windows"]:
            self._open.pop(name, None)
            if after["final"]:
                self._seen.pop(name, None)
                self._read.add(name, bool(after["fixed"]))
            else:
                self._open[name] = tuple(after["paths"])

    def state(self) -> Any:
        """The windows that are read, and those that may have late rows."""
        return {"windows": self._read.state(), "open": {name: list(paths) for name, paths in self._open.items()}}

    def load_state(self, state: Any) -> None:
        """As `state` returned it."""
        self._read = _Names.of(state["windows"])
        self._open = {str(name): tuple(map(str, paths)) for name, paths in state["open"].items()}
        self._seen = {}


def _is_late(shard: StoredShard) -> bool:
    return shard.path.rpartition("/")[2].startswith("late-")


def _after_set(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    is_fixed = fields["windows"].startswith("fixed:")
    return {"windows": list(fields["parts"]), "final": True, "fixed": is_fixed, "paths": []}


def _fields(path: str) -> Mapping[str, Any] | None:
    content = read_if_there(path)
    return None if content is None else parse_manifest(content, path)


class _Names:
    """Names of windows; those of a fixed size that follow each other are kept as one run."""

    def __init__(self) -> None:
        self._runs: list[tuple[int, int]] = []
        self._others: set[str] = set()

    def __contains__(self, name: str) -> bool:
        if name in self._others:
            return True
        start, _, end = name.partition("_")
        at = bisect.bisect_right(self._runs, (parse_time_name(start), 1 << 63)) - 1
        return at >= 0 and bool(end) and parse_time_name(end) <= self._runs[at][1]

    def add(self, name: str, is_fixed: bool) -> None:
        if not is_fixed:
            self._others.add(name)
            return
        low, high = (parse_time_name(time) for time in name.split("_"))
        at = bisect.bisect_left(self._runs, (low, high))
        if at < len(self._runs) and self._runs[at][0] == high:
            high = self._runs.pop(at)[1]
        if at and self._runs[at - 1][1] == low:
            at -= 1
            low = self._runs.pop(at)[0]
        self._runs.insert(at, (low, high))

    def state(self) -> dict[str, Any]:
        return {"runs": [list(run) for run in self._runs], "others": sorted(self._others)}

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "_Names":
        found = cls()
        found._runs = sorted((int(low), int(high)) for low, high in state["runs"])
        found._others = {str(name) for name in state["others"]}
        return found


class PublishedSpans(Published):
    """Spans: the versions of a dataset that is one, of which each has those that it adds."""

    def __init__(self, directory: str, is_shared: bool = False):
        super().__init__(directory, is_shared)
        self._version = 0
        self._runs: tuple[str, ...] = ()
        self._seen: bytes | None = None

    def look(self) -> Iterator[Part]:
        """Reads the manifest, and those of the versions between the last one that was read and it."""
        path = join(self._directory, MANIFEST)
        content = read_if_there(path)
        if content is None:
            raise DataError(f"{path}: is gone; the dataset was removed while it was followed")
        if content == self._seen:
            return
        fields = parse_manifest(content, path)
        newest, version, runs = fields["dataset_version"], self._version, self._runs
        is_other = newest < version or (newest == version and _runs(fields) != runs)
        if is_other or (version and newest > version and not self._is_read(version)):
            raise DataError(f"{path}: is of another dataset than the one that was read before: begin anew")
        # At first, all that is there is new, whatever came when.
        for number in range(version + 1 if version else newest, newest + 1):
            try:
                _, fields = read_version_of(self._directory, number)
            except ConfigError as error:
                raise DataError(f"version {number} was not read and is gone: {error}") from error
            yield from self._parts(fields, number, runs)
            runs = _runs(fields)
        self._seen = content

    def _is_read(self, number: int) -> bool:
        """Whether what a version has was read, or nothing tells: not in a dataset that was written in place of it."""
        try:
            _, fields = read_version_of(self._directory, number)
        except ConfigError:
            return True
        return {*_runs(fields)}.issubset(self._runs)

    def _parts(self, fields: Mapping[str, Any], number: int, runs: tuple[str, ...]) -> Iterator[Part]:
        """What a version adds; a part for each span where ranks share them."""
        added = _added(fields, runs)
        if self._is_shared:
            before = number - 1 if self._version else 0
            for run, shards in [*added.items()][:-1]:
                runs = (*runs, run)
                yield Part(shards, {"version": before, "runs": list(runs)})
                del added[run]
        shards = tuple(shard for one in added.values() for shard in one)
        yield Part(shards, {"version": number, "runs": list(_runs(fields))})

    def add(self, after: Mapping[str, Any]) -> None:
        """Notes a version."""
        self._version, self._runs = int(after["version"]), tuple(map(str, after["runs"]))

    def state(self) -> Any:
        """The version, and the runs whose spans it has."""
        return {"version": self._version, "runs": list(self._runs)}

    def load_state(self, state: Any) -> None:
        """As `state` returned it."""
        self.add(state)
        self._seen = None


def _runs(fields: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(span["run_id"] for span in fields["spans"]) or (fields["run_id"],)


def _added(fields: Mapping[str, Any], known: Sequence[str]) -> dict[str, tuple[StoredShard, ...]]:
    """The shards of a version whose rows were in none before, by run: spans that were put together have no new ones.

    Raises:
      DataError: for a span that was put together of some that are known and others that are not, and for a shard of
        no span.
    """
    if not fields["spans"]:
        return {} if fields["run_id"] in known else {fields["run_id"]: tuple(fields["shards"])}
    folders = {span["folder"]: span["run_id"] for span in fields["spans"]}
    shards: dict[str, list[StoredShard]] = {}
    for span in fields["spans"]:
        parts = {*span["parts"]}
        if span["run_id"] in known or (parts and parts.issubset(known)):
            continue
        if not parts.isdisjoint(known):
            raise DataError(
                "spans that were read were put together with others that were not: begin anew, or go on with a state "
                "behind the first reading of the dataset"
            )
        shards[span["run_id"]] = []
    for shard in fields["shards"]:
        top = shard.path.partition("/")[0]
        run = folders.get(top if top in folders else "")
        if run is None:
            raise DataError(f"the shard {shard.path} is in none of the spans of its manifest; see penstock verify")
        if run in shards:
            shards[run].append(shard)
    return {run: tuple(found) for run, found in shards.items()}
