"""What the page calls each number, how it is defined, and where it stands in the statistics."""

from typing import Literal, NamedTuple

Form = Literal["count", "number", "share"]


class Metric(NamedTuple):
    """One number of a feature: its key, its label, how it is shown, and what it means."""

    key: str
    label: str
    form: Form
    meaning: str


# In the order in which a feature's section lists them.
METRICS = (
    Metric("present", "Rows with a value", "count", "Rows in which the feature has at least one value."),
    Metric("missing", "Missing", "count", "Rows in which the feature has no value: null, or an absent member."),
    Metric("missing_share", "Missing share", "share", "Missing rows as a share of all rows."),
    Metric("values", "Values", "count", "Values in all rows together. A row of a list has several, or none."),
    Metric("least_values", "Least values in a row", "count", "The least number of values in a row that has any."),
    Metric("most_values", "Most values in a row", "count", "The greatest number of values in a row."),
    Metric(
        "distinct",
        "Distinct",
        "count",
        "How many different values there are. Where there are many it is an estimate; the relative standard error is "
        "given beside it.",
    ),
    Metric("distinct_error", "Error of distinct", "share", "Relative standard error of Distinct; 0 if it is exact."),
    Metric("mean", "Mean", "number", "Sum of the finite values divided by their number."),
    Metric(
        "std",
        "Standard deviation",
        "number",
        "Root of the mean squared distance from the mean, divided by the number of values, not by one less.",
    ),
    Metric("sum", "Sum", "number", "Sum of the finite values."),
    Metric("least", "Minimum", "number", "The least value."),
    Metric("median", "Median", "number", "The value below which half of the values lie, from the quantiles."),
    Metric("greatest", "Maximum", "number", "The greatest value."),
    Metric("zeros", "Zeros", "count", "Values that are zero."),
    Metric("zero_share", "Zero share", "share", "Zeros as a share of all values."),
    Metric(
        "nan", "NaN", "count", "Values that are not a number (IEEE 754). They are not in the mean or the histogram."
    ),
    Metric("positive_infinity", "+∞", "count", "Values that are positive infinity."),
    Metric("negative_infinity", "-∞", "count", "Values that are negative infinity."),
    Metric("quantile_error", "Error of quantiles", "share", "Relative error of the value of a quantile, at most."),
    Metric("mean_length", "Mean length", "number", "Mean number of characters of a text, or of bytes of a blob."),
    Metric("least_length", "Shortest", "number", "Characters of the shortest text, or bytes of the shortest blob."),
    Metric("greatest_length", "Longest", "number", "Characters of the longest text, or bytes of the longest blob."),
    Metric("invalid_utf8", "Not UTF-8", "count", "Values that should be texts and are not valid UTF-8."),
    Metric(
        "mutual_information",
        "Information on the label",
        "number",
        "Mutual information of the feature and the label, in nats: how much one tells about the other. 0 if nothing.",
    ),
    Metric("weighted_missing", "Missing, weighted", "number", "Sum of the weights of the missing rows."),
    Metric("weighted_mean", "Mean, weighted", "number", "Mean in which each row counts by its weight."),
    Metric("weighted_std", "Deviation, weighted", "number", "Standard deviation in which each row counts by weight."),
    Metric("weighted_median", "Median, weighted", "number", "Median in which each row counts by its weight."),
)

# What the page shows that is no number of a feature: key, label, meaning.
TERMS = (
    (
        "feature",
        "Feature",
        "A column of the data, or a member of a nested one: its path, with dots between the steps.",
    ),
    ("type", "Type", "What the statistics take the values for: INT, FLOAT, STRING (text), BYTES, or STRUCT."),
    ("alerts", "Alerts", "How many findings name the feature."),
    ("top", "Top value", "The value that is found most often, and its share of all values."),
    (
        "histogram",
        "Histogram",
        "How many values lie in each of up to 30 bins of equal width, from the least to the greatest value of all "
        "datasets that are shown. Bins are made of the buckets in the statistics, inside which values count as evenly "
        "spread. With more than one dataset it shows shares, so that sizes do not matter.",
    ),
    ("quantiles", "Quantiles", "Values below which the given share of all values lies."),
    ("patterns", "Patterns", "How many texts have the form of a date, an e-mail address, a number and so on."),
    ("lengths", "Lengths", "How many texts have a given number of characters."),
    ("together", "Missing together", "In how many rows this feature and another are both missing."),
    (
        "correlation",
        "Correlation",
        "Pearson's r of two numeric features, over rows that have both: covariance divided by the product of the "
        "standard deviations. -1 to 1; 0 says that there is no linear relation, not that there is none.",
    ),
    (
        "drift",
        "Distance",
        "How far two datasets are apart in a feature: drift is from an earlier dataset, skew is from the data at "
        "serving.",
    ),
    (
        "l_infinity",
        "L-infinity",
        "Of all values, the greatest difference between their shares in two datasets; 0 to 1.",
    ),
    (
        "jensen_shannon",
        "Jensen-Shannon divergence",
        "Mean of the Kullback-Leibler divergences (base 2) of two distributions from their average; 0 to 1.",
    ),
    (
        "kolmogorov_smirnov",
        "Kolmogorov-Smirnov",
        "Of all numbers, the greatest difference between the shares of values below them; 0 to 1.",
    ),
    (
        "wasserstein",
        "Wasserstein",
        "Mean distance by which values must move to make one distribution of the other, in units of the earlier "
        "dataset's spread.",
    ),
    (
        "psi",
        "Population stability index",
        "Sum over bins of the difference of two shares times the logarithm of their quotient; 0 if they are equal.",
    ),
    (
        "normalized_absolute_difference",
        "Normalised difference",
        "Difference of the numbers of rows as a share of the greater one.",
    ),
    ("rejected", "Rejected rows", "Rows that were not written. Each is kept as a dead letter, with all its reasons."),
    ("reason", "Reason", "Code of what is wrong with a row. A row may have several, so they may add up to more."),
    (
        "window",
        "Window",
        "A span of time whose rows are published together. Those of an event-time window have their own times in it; "
        "one of processing time has what came in between. A late row came after its window had been published.",
    ),
    ("severity", "Severity", "An error stops a check; a warning is only told."),
)

KEYS = {metric.key: index for index, metric in enumerate(METRICS)}
MEANINGS = {**{key: (label, text) for key, label, text in TERMS}, **{m.key: (m.label, m.meaning) for m in METRICS}}
