"""What statistics are computed, beside those that every column has."""

import dataclasses
from typing import Any, Self

from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.errors import ConfigError
from penstock.io.reserved import RESERVED
from penstock.io.schema import named_features

_COUNTS = ("top_values", "rank_values", "histogram_buckets", "quantile_buckets", "length_buckets", "max_slices")
# More boundaries than this say nothing more, and make the file large.
_MAX_BUCKETS = 1000


@dataclasses.dataclass(frozen=True)
class StatisticsOptions:
    """What statistics are computed.

    Only statistics of equal options merge.

    Attributes:
      weight: the column of weights: one number in each row, finite and not negative. Statistics are then computed
        with and without weights, as in TFDV.
      slice_by: columns of texts or integers. For each value of each of them there are statistics of the rows that
        have it, beside those of all rows.
      label: the column that the others are to predict: their mutual information with it is computed.
      top_values: how many of the most frequent values are listed.
      rank_values: how many values the rank histogram has.
      histogram_buckets: buckets of equal width of numbers.
      quantile_buckets: buckets of equal mass of numbers.
      length_buckets: buckets of equal mass of how many values a row has, and of how long texts are.
      pair_columns: of so many columns, the first by name, it is counted which are missing together, and of so many
        columns of numbers covariance and correlation are computed; 0 for none.
      max_slices: the most slices; with more, the job fails.
      categorical: columns of integers that are names of something: they get the statistics of texts.
      images: columns of bytes whose values are compared with none: they get only their sizes.
    """

    weight: str | None = None
    slice_by: tuple[str, ...] = ()
    label: str | None = None
    top_values: int = 20
    rank_values: int = 1000
    histogram_buckets: int = 10
    quantile_buckets: int = 10
    length_buckets: int = 10
    pair_columns: int = 64
    max_slices: int = 1000
    categorical: tuple[str, ...] = ()
    images: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
          ConfigError: for an option that has no meaning.
        """
        for name in ("slice_by", "categorical", "images"):
            _check_names(name, getattr(self, name))
        for name in ("weight", "label"):
            if (value := getattr(self, name)) is not None:
                _check_names(name, (value,))
        for name in _COUNTS:
            _check_count(name, getattr(self, name), 1)
        _check_count("pair_columns", self.pair_columns, 0)
        for name in ("histogram_buckets", "quantile_buckets", "length_buckets"):
            if getattr(self, name) > _MAX_BUCKETS:
                raise ConfigError(f"{name} must be at most {_MAX_BUCKETS}, got {getattr(self, name)}")
        if self.weight is not None and self.weight in self.slice_by:
            raise ConfigError(f"slice_by names {self.weight!r}, the column of weights; slice by another column")

    def with_schema(self, schema: schema_pb2.Schema) -> Self:
        """Returns these options, with `categorical` and `images` as a schema has them.

        As in TFDV, an INT feature is categorical if it has a `bool_domain`, or an `int_domain` with `is_categorical`;
        a feature is an image if it has an `image_domain`.
        """
        features = named_features(schema).items()
        return dataclasses.replace(
            self,
            categorical=tuple(sorted(name for name, feature in features if _is_categorical(feature))),
            images=tuple(sorted(name for name, feature in features if feature.HasField("image_domain"))),
        )

    def to_state(self) -> dict[str, Any]:
        """Returns them as plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Returns the options of `to_state`; fields that this version does not know are left out."""
        known = {field.name for field in dataclasses.fields(cls)}
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in state.items()
        }
        return cls(**{name: value for name, value in values.items() if name in known})

    def check_equal(self, other: Self) -> None:
        """Checks that statistics of both options merge.

        Raises:
          ConfigError: names the first option that differs.
        """
        for field in dataclasses.fields(self):
            ours, theirs = getattr(self, field.name), getattr(other, field.name)
            if ours != theirs:
                raise ConfigError(
                    f"statistics of different options do not merge: {field.name} is {ours!r} in one and {theirs!r} in "
                    "the other; compute both with the same options"
                )


def _check_names(option: str, names: tuple[str, ...]) -> None:
    if isinstance(names, str):
        raise ConfigError(f"{option} must be a tuple of names of columns, got the text {names!r}")
    for name in names:
        if not isinstance(name, str) or not name:
            raise ConfigError(f"{option} must name columns, got {name!r}")
        if name in RESERVED:
            raise ConfigError(f"{option} names {name!r}, a column of Penstock's own; name a column of the data")
    if len(set(names)) < len(names):
        raise ConfigError(f"{option} names a column twice: {', '.join(names)}")


def _check_count(name: str, count: int, least: int) -> None:
    if not isinstance(count, int) or isinstance(count, bool) or count < least:
        raise ConfigError(f"{name} must be a whole number >= {least}, got {count!r}")


def _is_categorical(feature: schema_pb2.Feature) -> bool:
    return feature.type == schema_pb2.INT and (
        feature.HasField("bool_domain") or (feature.HasField("int_domain") and feature.int_domain.is_categorical)
    )
