"""The operations that a features file may name, by theme.

Names and meanings are those of tensorflow-transform (`tft.*`) and TensorFlow (`tf.math.*`, `tf.strings.*`) where these
have them. Missing values stay missing: an operation sees, and an analysis counts, only the values that are there.
"""

import types
from collections.abc import Mapping

from penstock.transforms.features.operations.choices import CHOICES
from penstock.transforms.features.operations.fitted import FITTED
from penstock.transforms.features.operations.lists import LISTS
from penstock.transforms.features.operations.numbers import NUMBERS
from penstock.transforms.features.operations.operation import Operation
from penstock.transforms.features.operations.texts import TEXTS
from penstock.transforms.features.operations.times import TIMES

THEMES: Mapping[str, tuple[Operation, ...]] = types.MappingProxyType(
    {
        "Fitted to the train split": FITTED,
        "Numbers": NUMBERS,
        "Texts": TEXTS,
        "Times": TIMES,
        "Choices": CHOICES,
        "Lists": LISTS,
    }
)

OPERATIONS: Mapping[str, Operation] = types.MappingProxyType(
    {operation.name: operation for theme in THEMES.values() for operation in theme}
)
