"""Sketches: what is known of a column of any length, in bounded memory, the same for any order, batches and merges.

===================  ============================================================================================
`NumberSketch`       counts of special values, least and greatest, exact sums, and a `QuantileSketch`
`WeightedNumbers`    the same sums and quantiles, with a weight for each value
`QuantileSketch`     a histogram of at most 4,096 buckets, for quantiles, ranks and histograms of any edges
`DistinctSketch`     how many different values there are
`FrequentSketch`     the most frequent values with their counts
`TextSketch`         lengths of texts, and their patterns: dates, numbers, e-mail addresses and others
`count_values`       the different values of a batch, their counts and hashes, which the last three take
`fixed_point`        weights as the whole numbers that quantiles and frequent values take for counts
===================  ============================================================================================

Each has `update`, `merge(other)` in place, `==`, `to_bytes` and `from_bytes`. The bytes follow from the values alone
that were put in, not from their order, the batches or the tree of merges (for `FrequentSketch` see there). They need
neither Beam nor a schema, and no column has nulls here: who calls counts and drops these.
"""

from penstock.transforms.statistics.sketches.distinct import DistinctSketch as DistinctSketch
from penstock.transforms.statistics.sketches.frequent import FrequentSketch as FrequentSketch
from penstock.transforms.statistics.sketches.numbers import NumberSketch as NumberSketch
from penstock.transforms.statistics.sketches.numbers import WeightedNumbers as WeightedNumbers
from penstock.transforms.statistics.sketches.quantiles import WEIGHT_UNIT as WEIGHT_UNIT
from penstock.transforms.statistics.sketches.quantiles import QuantileSketch as QuantileSketch
from penstock.transforms.statistics.sketches.quantiles import fixed_point as fixed_point
from penstock.transforms.statistics.sketches.texts import PATTERN_NAMES as PATTERN_NAMES
from penstock.transforms.statistics.sketches.texts import TextSketch as TextSketch
from penstock.transforms.statistics.sketches.values import ValueCounts as ValueCounts
from penstock.transforms.statistics.sketches.values import count_values as count_values
