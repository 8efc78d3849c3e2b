"""How much two datasets may differ before it is said."""

import dataclasses
import math

from penstock.io.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """How much two datasets may differ: a finding is a difference larger than chance and a threshold.

    What chance does follows from the numbers of rows and of features (`measures.bounds`), so that small datasets raise
    no alarm. Thresholds keep differences quiet that are certain, but too small to matter, as all are among millions of
    rows. The [page](../../docs/anomalies.md) gives formula and source of each.

    Attributes:
      false_alarms: how likely two datasets of one source may raise any finding at all.
      distribution: Kolmogorov-Smirnov distance of numbers, and of lengths of texts, from 0 to 1.
      mean: difference of means, in standard deviations of both datasets together.
      values: largest difference of the share of one value (L-infinity), from 0 to 1.
      new_values: share of a value that the other dataset lacks.
      shares: difference of shares of nulls, NaN, zeros, or texts of a pattern, as Cohen's h: 0.1 is from 1 to 2.2 % or
        from 50 to 55 %.
      distinct: how far the number of distinct values may leave what sampling explains, relative to it.
      correlation: difference of Pearson's correlation of two columns, from 0 to 2.
      psi: population stability index, over tenths of the numbers or the most frequent values of the other dataset; None
        does not look at it.
      error_factor: a difference of so many times its threshold is an error, below that a warning.
      ignore: features that are not compared, by dotted names.
    """

    false_alarms: float = 1e-4
    distribution: float = 0.05
    mean: float = 0.1
    values: float = 0.05
    new_values: float = 0.001
    shares: float = 0.1
    distinct: float = 0.1
    correlation: float = 0.2
    psi: float | None = None
    error_factor: float = 2.0
    ignore: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
          ConfigError: for a number that is out of its range.
        """
        if not 0 < self.false_alarms < 1:
            raise ConfigError(f"false_alarms is a probability above 0 and below 1, got {self.false_alarms}")
        for name in ("distribution", "values", "new_values"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is a part of the rows, from 0 to 1, got {getattr(self, name)}")
        if not 0 <= self.correlation <= 2:
            raise ConfigError(f"correlation is a difference of two correlations, from 0 to 2, got {self.correlation}")
        for name in ("mean", "shares", "distinct", "psi", "error_factor"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= (1 if name == "error_factor" else 0)):
                least = "1 or more" if name == "error_factor" else "not negative"
                raise ConfigError(f"{name} must be {least} and finite, got {value}")
