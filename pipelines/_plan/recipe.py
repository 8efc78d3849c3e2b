"""What the flags ask to be done with the rows, read from what they name, before there is a schema."""

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Self

from penstock.io.beam.windows import AnyWindows, FlushWindows, Windows
from penstock.io.columns.event_times import parse_event_time
from penstock.io.errors import ConfigError
from penstock.io.sources.base import Source
from penstock.io.sources.files import FileSource
from penstock.transforms._named import AnyEngine
from penstock.transforms.checks.file import Checks, load_checks
from penstock.transforms.checks.severity import SchemaSeverity
from penstock.transforms.features.code.function import FeatureFunction
from penstock.transforms.features.engine import choose_engine, fitted_engine
from penstock.transforms.features.exported.export import check_exported
from penstock.transforms.features.functions import FeatureFile, load_features
from penstock.transforms.features.tensorflow import check_tensorflow
from penstock.transforms.rolling.file import RollingSpec
from penstock.transforms.rolling.transform import load_rolling
from penstock.transforms.splits.balance import Balance
from penstock.transforms.splits.base import SplitKind
from penstock.transforms.splits.by_hash import SplitByHash
from penstock.transforms.splits.registry import KIND_FLAGS, TRAIN, split_kind
from penstock.transforms.splits.spelling import exact
from pipelines._cli.options import CheckOptions, ReadingOptions, SplitOptions, TransformOptions
from pipelines._report.phases import COMPARE, ROLL, Phase


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What the flags ask to be done with the rows; `load` checks everything that needs no schema.

    Attributes:
      checks: what `--rules` asks of the rows.
      environment: which features of the schema are expected; None for all.
      severity: what becomes of rows that break the schema.
      windows: of event time, of the dataset; None without.
      has_windows: whether the dataset has windows, of event time or processing time.
      split: the flags that say which split a row is in.
      rolling: what `--rolling` computes; None without.
      preprocessing: what `--features` computes; None without.
      engine: what computes it.
      max_ahead: how far ahead of the clock a row may be; None if it may have any time.
    """

    checks: Checks
    environment: str | None
    severity: SchemaSeverity
    label: str | None
    split: SplitOptions
    event_time: str | None
    windows: Windows | None
    rolling: RollingSpec | None
    preprocessing: FeatureFile | FeatureFunction | None
    engine: AnyEngine = "auto"
    max_ahead: datetime.timedelta | None = None
    has_windows: bool = False

    @classmethod
    def load(
        cls,
        inputs: ReadingOptions,
        checks: CheckOptions,
        split: SplitOptions,
        transform: TransformOptions,
        windows: AnyWindows | None = None,
    ) -> Self:
        """Reads the files that the flags name.

        Raises:
          ConfigError: when a file of rules or features, a split or an event time is wrong.
          ImportError: when features need the extra `tft`, and it is not installed.
        """
        if inputs.event_time:
            parse_event_time(inputs.event_time)
        _check_schema_flags(checks)
        recipe = cls(
            checks=load_checks(checks.rules) if checks.rules else Checks(),
            environment=checks.environment,
            severity=SchemaSeverity(checks.schema_mode, checks.schema_warn),
            label=checks.label,
            split=split,
            event_time=inputs.event_time,
            windows=None if isinstance(windows, FlushWindows) else windows,
            has_windows=windows is not None,
            rolling=load_rolling(transform.rolling) if transform.rolling else None,
            preprocessing=load_features(transform.features, transform.custom_config) if transform.features else None,
            engine=transform.features_engine,
        )
        if isinstance(windows, FlushWindows):
            recipe._check_flushed(windows)
        if transform.transform and fitted_engine(transform.transform) == "tft":
            check_tensorflow()
        if recipe.preprocessing is not None:
            engine = choose_engine(recipe.preprocessing, recipe.engine)
            if transform.export_saved_model and engine == "arrow" and isinstance(recipe.preprocessing, FeatureFile):
                check_exported(recipe.preprocessing)
        if recipe.preprocessing is not None and TRAIN not in split.names():
            flag = next(name for name in KIND_FLAGS if getattr(split, name))
            fit = "; fit them apart (penstock fit), and pass --transform" if split.folds else ""
            raise ConfigError(f"--features are fitted on the split {TRAIN!r}, which --{flag} does not name{fit}")
        return recipe

    def _check_flushed(self, windows: FlushWindows) -> None:
        """Refuses steps that go by event time and its watermark.

        Raises:
          ConfigError: names them.
        """
        if self.rolling is not None:
            raise ConfigError(
                f"--rolling looks back in event time, which windows of processing time ({windows}) do not go by: use "
                "--window, or leave --rolling out"
            )
        if self.checks.unique:
            raise ConfigError(
                f"{self.checks.unique[0].where}: in a stream a key can be unique in a window of event time, and those "
                f"of processing time ({windows}) have whatever comes: use --window fixed:SIZE, or leave `unique` out"
            )

    def split_kind(self, columns: Sequence[str] | None = None) -> SplitKind:
        """What chooses the split of a row that has these columns."""
        return split_kind(self.split.values(), columns)

    def check_source(self, source: Source) -> None:
        """Checks that the source has what rows are split by, before any is read.

        Raises:
          ConfigError: when its rows have no event times, or a file no split.
        """
        kind = self.split_kind()
        if kind.needs_event_time and not (self.event_time or source.has_event_times):
            raise ConfigError("--split_time goes by event time: pass --event_time COLUMN")
        if type(source) is FileSource:  # the files of a replay hold rows of other files
            kind.check_files([file.uri for file in source.files])

    def balance(self) -> Balance:
        """What is told of the splits."""
        kind = self.split_kind()
        ratios = [float(exact(ratio)) for ratio in kind.ratios.values()] if isinstance(kind, SplitByHash) else ()
        key = kind.key if isinstance(kind, SplitByHash) else ()
        return Balance(kind.names, key, self.label, self.split.split_stratify, ratios)

    @property
    def phases(self) -> list[Phase]:
        """Those of bounded input between reading and what comes of the rows."""
        return [*([COMPARE] if self.checks.unique else []), *([ROLL] if self.rolling else [])]


def _check_schema_flags(checks: CheckOptions) -> None:
    """Refuses what is about a schema where none is given.

    Raises:
      ConfigError: names the flag.
    """
    defaults = CheckOptions()
    for name in ("environment", "schema_mode", "schema_warn"):
        if getattr(checks, name) != getattr(defaults, name) and not checks.schema:
            raise ConfigError(
                f"--{name} is about a schema that is given, and the inferred one holds for all rows: pass --schema"
            )
