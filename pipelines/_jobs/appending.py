"""What `prepare --append` and `replay --append` take from the dataset that they add to; which inputs are in it."""

import dataclasses
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from penstock.io.dataset.layout import SCHEMA, TRANSFORM, WINDOWS
from penstock.io.dataset.manifest import Manifest, read_manifest
from penstock.io.dataset.options import Addition
from penstock.io.dataset.spans.whole import name_of_new
from penstock.io.errors import ConfigError, DataError
from penstock.io.files import stores
from penstock.io.files.folders import list_files
from penstock.io.files.inputs import InputFile
from penstock.io.reserved import keeps_origins
from penstock.io.schema import load_schema, schema_fingerprint
from penstock.io.sources.base import Source
from penstock.io.sources.files import FileSource
from penstock.transforms.features.apply import transform_fingerprint
from penstock.transforms.relax import schema_difference
from penstock.transforms.splits.registry import KIND_FLAGS, SPLIT_FLAGS
from pipelines._options.dataset import DatasetJobOptions
from pipelines._plan.plan import Plan

_LOGGER = logging.getLogger(__name__)

_Job = TypeVar("_Job", bound=DatasetJobOptions)

# So many files are asked for their columns.
_MAX_LOOKS = 100

# Flags of the run that wrote the dataset which say nothing of a run that adds to it.
_OWN = frozenset(
    {
        "input",
        "inventory_columns",
        "output",
        "overwrite",
        "resume",
        "append",
        "span",
        "num_shards",
        "also_to",
        "rejects_to",
        "report",
        "check_against",
        "features",
        "custom_config",
        "features_engine",
    }
)

_MAX_NAMED = 3


@dataclasses.dataclass(frozen=True)
class Appending:
    """A run that adds to a dataset.

    Attributes:
      base: the dataset as it is; None if there is none yet.
      skipped: inputs that are in it already.
    """

    base: Manifest | None
    skipped: tuple[str, ...] = ()

    @classmethod
    def begin(cls, output: str) -> "Appending":
        """Looks at what is there.

        Raises:
          ConfigError: for a dataset with windows.
          DataError: for a manifest that cannot be read.
        """
        base = read_manifest(output)
        if base is None and list_files(stores.join(output, WINDOWS)):
            raise ConfigError(
                f"--append: {output} is a dataset with windows, which the stream that writes it adds to: name another "
                "folder"
            )
        return cls(base)

    def completed(self, options: _Job, own: Collection[str] = ()) -> _Job:
        """Returns the options; a flag that is not given has its value from the run that wrote the dataset.

        Args:
          options: of a job that adds.
          own: more flags that say nothing of what is added.

        Raises:
          ConfigError: for flags that ask for other rows, splits or features than those of the dataset.
        """
        output, base = str(options.output.output), self.base
        if base is None:
            return options
        name_of_new(base, options.output.span)
        given = set(options.given)
        given |= set(SPLIT_FLAGS) if given & set(KIND_FLAGS) else set()
        stored: Mapping[str, Any] = base.provenance.get("options", {})
        # Manifests from before there was a second hash do not name its version.
        stored = {"split_hash": 1, **stored} if stored else stored
        flags = {name: value for name, value in stored.items() if name not in given and name not in {*_OWN, *own}}
        if "output_format" not in given:
            flags["output_format"] = base.format
        elif options.output.output_format != base.format:
            raise ConfigError(
                f"--output_format {options.output.output_format}: the shards of the dataset are {base.format}: leave "
                "it out"
            )
        flags["compression"] = options.output.compression or base.compression
        has_index = flags["compression"] == base.compression and any(shard.index for shard in base.shards)
        flags["index"] = options.output.index or has_index
        flags["keep_origin"] = keeps_origins(base.provenance)
        if options.output.keep_origin and not flags["keep_origin"]:
            raise ConfigError(
                f"--keep_origin: records of the dataset {output} do not say where they came from, so none that are "
                "added may: leave it out"
            )
        if not options.checks.schema:
            flags["schema"] = self._schema(options, output, flags.get("rolling"))
            flags.pop("environment", None)  # the schema of a dataset is what its environment saw
        flags["transform"] = self._graph(options, output)
        return options.with_flags(flags)

    def addition(self, options: DatasetJobOptions) -> Addition:
        """Returns what the sink is told."""
        return Addition(options.output.span, "" if self.base is None else self.base.run_id)

    def _schema(self, options: DatasetJobOptions, output: str, rolling: object) -> str | None:
        """The schema of the dataset; with rolling features it is not that of the rows that are read."""
        place = self.base.extra(SCHEMA) if self.base is not None else None
        if place is not None and (rolling or options.transform.rolling):
            raise ConfigError(
                f"--append: {stores.join(output, place)} has the rolling features too, so it does not say what the "
                "rows are as they are read: pass --schema"
            )
        return None if place is None else stores.join(output, place)

    def _graph(self, options: DatasetJobOptions, output: str) -> str | None:
        """The graph of the dataset, which a run may name too; none where it has none."""
        place = self.base.extra(TRANSFORM) if self.base is not None else None
        flags = options.transform
        if place is None:
            if flags.features or flags.transform:
                flag = "features" if flags.features else "transform"
                raise ConfigError(
                    f"--{flag}: the dataset {output} has no features, so nothing that is added may: leave it out"
                )
            return None
        ours = stores.join(output, place)
        if flags.features:
            raise ConfigError(
                f"--features fits them anew, and those of the dataset {output} are fitted: leave it out, and they are "
                "applied"
            )
        if flags.transform and transform_fingerprint(flags.transform) != transform_fingerprint(ours):
            raise ConfigError(
                f"--transform {flags.transform}: is another graph than the one that {output} was written with: leave "
                "it out, and that one is applied"
            )
        return ours

    def fresh(self, source: Source) -> "tuple[Appending, Source]":
        """Returns the source without the files that are in the dataset, and remembers these.

        Raises:
          ConfigError: for a source that is no files.
          DataError: for a file of the dataset that has changed since.
        """
        if self.base is None:
            return self, source
        if type(source) is not FileSource:
            raise ConfigError(
                f"--append adds files, since their names tell what is in the dataset, got {source.describe()}"
            )
        known = _Known(self.base.provenance.get("inputs", ()))
        skipped = tuple(file.uri for file in source.files if known.has(file))
        if not skipped:
            return self, source
        _LOGGER.warning("%s", _told(skipped))
        rest = tuple(file for file in source.files if file.uri not in {*skipped})
        return dataclasses.replace(self, skipped=skipped), dataclasses.replace(source, files=rest)

    def check(self, plan: Plan, options: DatasetJobOptions) -> None:
        """Refuses rows that are written or split in another way, or have another schema, before any is read.

        Raises:
          ConfigError: says what differs.
        """
        base, seed, output = self.base, options.split.seed, str(options.output.output)
        if base is None:
            return
        spec = options.dataset_spec()
        for name, ours, theirs in (
            ("compression", base.compression, spec.compression),
            ("shuffle", base.shuffle, spec.shuffle),
        ):
            if ours != theirs:
                raise ConfigError(f"--{name} {theirs}: the shards of the dataset are written with {ours}: leave it out")
        split, said = plan.recipe.split_kind().describe(), base.provenance.get("split")
        if said is not None and split != said:
            raise ConfigError(
                f"--append: rows of the dataset are split {_text(said)}, and these would be {_text(split)}: the same "
                "row could come into another split; leave out the flags of splits"
            )
        if seed != base.seed:
            raise ConfigError(
                f"--seed {seed}: the dataset has the seed {base.seed}, and with another one the same row could come "
                "into another split: leave it out"
            )
        place = base.extra(SCHEMA)
        if place is not None and "schema" not in options.given and not base.provenance.get("options", {}).get("schema"):
            _check_columns(plan.source, plan.columns, stores.join(output, place))
        fingerprint = base.provenance.get("schema_fingerprint")
        if fingerprint is not None and schema_fingerprint(plan.row_schema) != fingerprint:
            old = plan.row_schema if place is None else load_schema(stores.join(output, place))
            known = {feature.name for feature in old.feature}
            added = [f"feature {one.name} is new" for one in plan.row_schema.feature if one.name not in known]
            lines = (*schema_difference(old, plan.row_schema), *added)
            raise ConfigError(
                "--append: the rows have another schema than the dataset: "
                + "; ".join(map(" ".join, map(str.split, lines)))
            )


def _check_columns(source: Source, known: Collection[str], schema: str) -> None:
    """Refuses columns that an inferred schema of a dataset does not have, as far as files declare theirs.

    Raises:
      ConfigError: names the file and the columns.
    """
    if not isinstance(source, FileSource):
        return
    for file in source.files[:_MAX_LOOKS]:
        columns = source.format_of_files.columns(file)
        more = [name for name in columns or () if name not in known]
        if more:
            raise ConfigError(
                f"{file.uri}: has columns that the dataset does not have ({', '.join(more)}); to leave them out, pass "
                f"--schema {schema}"
            )


def _text(split: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in split.items() if value not in (None, [], {}))


def _told(skipped: Sequence[str]) -> str:
    named = ", ".join(skipped[:_MAX_NAMED]) + (", ..." if len(skipped) > _MAX_NAMED else "")
    which = "1 input is" if len(skipped) == 1 else f"{len(skipped):,} inputs are"
    return f"{which} in the dataset already, and left out: {named}"


class _Known:
    """The inputs of a dataset, as its manifest remembers them."""

    def __init__(self, inputs: Iterable[Mapping[str, Any]]):
        self._by_uri: dict[str, Mapping[str, Any]] = {}
        self._contents: dict[tuple[str, int, str], str] = {}
        for one in inputs:
            self._by_uri[one["uri"]] = one
            if one.get("version"):
                name = one["uri"].rpartition("/")[2]
                self._contents[name, one.get("size", -1), one["version"]] = one["uri"]

    def has(self, file: InputFile) -> bool:
        """Whether the file is in the dataset: by its path; or by name, size and version, if it lies elsewhere now.

        Raises:
          DataError: when another version of it is.
        """
        one = self._by_uri.get(file.uri)
        if one is None:
            name = file.uri.rpartition("/")[2]
            return bool(file.version) and (name, file.size, file.version) in self._contents
        if file.crc32c and one.get("crc32c"):
            same = file.crc32c == one["crc32c"] and file.size == one.get("size")
        elif file.version and one.get("version"):
            same = (file.size, file.version) == (one.get("size"), one["version"])
        else:
            same = (file.size, file.mtime) == (one.get("size"), one.get("mtime"))
        if not same:
            span = one.get("span", "1")
            raise DataError(
                f"{file.uri}: is in the dataset (span {span}) as it was before, with {one.get('size')} bytes, and has "
                f"{file.size} now: its rows would be in it twice; drop that span first (penstock drop-span), or put "
                "new rows into files of their own"
            )
        return True
