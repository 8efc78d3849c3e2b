"""Operations on flat tensors of texts."""

from collections.abc import Callable
from typing import Any

from penstock.transforms.features.compute.columns import Column, Values, flat_values, keep_values
from penstock.transforms.features.compute.modules import Tensorflow

_CHARACTERS = "UTF8_CHAR"


def to_number(t: Tensorflow, x: Values, to: str = "float") -> Values:
    """Parses the number that a text spells; the graph fails on any other text."""
    return t.tf.strings.to_number(x, t.tf.int64 if to == "int" else t.tf.float32)


def text(function: str, **fixed: Any) -> Callable[..., Values]:
    """Makes a function of `tf.strings`."""

    def call(t: Tensorflow, x: Values, **arguments: Any) -> Values:
        return getattr(t.tf.strings, function)(x, **fixed, **arguments)

    return call


def length(t: Tensorflow, x: Values) -> Values:
    """Counts the characters of a UTF-8 text; bytes that are not UTF-8 count one each."""
    return t.tf.cast(t.tf.strings.length(x, unit=_CHARACTERS), t.tf.int64)


def substr(t: Tensorflow, x: Values, start: int = 0, length: int | None = None) -> Values:
    """Returns a part of the text as Python's slices do: TensorFlow fails where it begins outside of the text."""
    tf = t.tf
    total = tf.strings.length(x, unit=_CHARACTERS)
    # int32 holds the length of any text.
    begin = tf.constant(max(min(start, 2**31 - 1), 1 - 2**31), tf.int32)
    first = tf.minimum(begin, total) if start >= 0 else tf.maximum(total + begin, 0)
    wanted = tf.fill(tf.shape(total), tf.constant(min(2**31 - 1 if length is None else length, 2**31 - 1), tf.int32))
    return tf.strings.substr(x, first, tf.minimum(wanted, total - first), unit=_CHARACTERS)


def join(t: Tensorflow, *texts: Values, separator: str = "") -> Values:
    """Joins the texts."""
    return t.tf.strings.join(list(texts), separator)


def regex_full_match(t: Tensorflow, x: Values, pattern: str) -> Values:
    """Returns 1 where all of the text matches."""
    return t.tf.cast(t.tf.strings.regex_full_match(x, pattern), t.tf.int64)


def regex_extract(t: Tensorflow, column: Column, pattern: str, group: int = 0) -> Column:
    """Keeps of each text the first match, or a group of it; texts without a match are dropped."""
    strings, values = t.tf.strings, flat_values(t, column)
    # `\C` is any byte, also of what is no UTF-8.
    whole = rf"\C*?({pattern})\C*"
    found = strings.regex_full_match(values, whole)
    return keep_values(t, column, strings.regex_replace(values, rf"\A{whole}\z", rf"\{group + 1}"), found)


def split(t: Tensorflow, column: Column, separator: str | None = None) -> Column:
    """Splits each text into pieces, a SparseTensor; without a separator, at runs of white space."""
    tf = t.tf
    if not isinstance(column, tf.SparseTensor):
        return tf.strings.split(column, separator).to_sparse()
    pieces = tf.strings.split(column.values, separator).to_sparse()
    rows = tf.gather(column.indices[:, 0], pieces.indices[:, 0])
    indices = tf.stack([rows, pieces.indices[:, 1]], axis=1)
    width = tf.cast(pieces.dense_shape[1], tf.int64)
    return tf.SparseTensor(indices, pieces.values, tf.stack([column.dense_shape[0], width]))
