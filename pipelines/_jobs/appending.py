"""What `prepare --append` and `replay --append` take from the dataset that they add to; which inputs are in it."""

import dataclasses
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

from penstock.io.dataset.layout import SCHEMA, TRANSFORM, WINDOWS
from penstock.io.dataset.manifest import Manifest, read_manifest
from penstock.io.dataset.options import Addition
from penstock.io.dataset.spans.whole import RETIRED, name_of_new
from penstock.io.errors import ConfigError
from penstock.io.files import stores
from penstock.io.files.folders import list_files
from penstock.io.reserved import keeps_origins
from penstock.io.schema import load_schema, schema_fingerprint
from penstock.io.sources.base import Source
from penstock.io.sources.files import FileSource
from penstock.transforms.features.apply import transform_fingerprint
from penstock.transforms.relax import schema_difference
from penstock.transforms.splits.registry import KIND_FLAGS, SPLIT_FLAGS
from pipelines._options.dataset import DatasetJobOptions
from pipelines._plan.known import KnownInputs
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
      skipped: inputs that are in it already, or were until `retain` dropped their span.
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
        """Returns the source without the files that are in the dataset, or have become too old, and remembers these.

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
        known = KnownInputs(self.base.provenance.get("inputs", ()))
        retired = KnownInputs(self.base.provenance.get(RETIRED, ()))
        present = [file.uri for file in source.files if known.has(file)]
        taken = {*present}
        too_old = [file.uri for file in source.files if file.uri not in taken and retired.has_same(file)]
        taken.update(too_old)
        if not taken:
            return self, source
        _tell(present, "is in the dataset already", "are in the dataset already")
        _tell(too_old, "was in the dataset until penstock retain", "were in the dataset until penstock retain")
        skipped = tuple(file.uri for file in source.files if file.uri in taken)
        rest = tuple(file for file in source.files if file.uri not in taken)
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


def _tell(left_out: Sequence[str], one: str, many: str) -> None:
    if left_out:
        named = ", ".join(left_out[:_MAX_NAMED]) + (", ..." if len(left_out) > _MAX_NAMED else "")
        which = f"1 input {one}" if len(left_out) == 1 else f"{len(left_out):,} inputs {many}"
        _LOGGER.warning("%s, and left out: %s", which, named)
