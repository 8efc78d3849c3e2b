"""Three lines of Python that load a dataset, for those who look at one: `penstock show`, and the end of `prepare`."""

import contextlib
import importlib.util
from collections.abc import Sequence
from typing import Literal, TypeAlias

import pyarrow as pa

Library: TypeAlias = Literal["torch", "tf_data", "numpy"]

_MODULES: dict[Library, str] = {"torch": "torch", "tf_data": "tensorflow"}

# A split of such a name is what is trained on.
_TRAIN = "train"


def installed_library() -> Library:
    """Returns PyTorch or TensorFlow, whichever is installed; neither is imported."""
    for library, module in _MODULES.items():
        with contextlib.suppress(ImportError):  # of what stands in the way of imports
            if importlib.util.find_spec(module) is not None:
                return library
    return "numpy"


def training_split(splits: Sequence[str]) -> str:
    """Returns the split that is loaded to train on.

    >>> training_split(["eval", "train"]), training_split(["a", "b"])
    ('train', 'a')
    """
    return _TRAIN if _TRAIN in splits else splits[0]


def snippet(directory: str, split: str, schema: pa.Schema, library: Library) -> tuple[str, ...]:
    """Returns the lines that load a split, with those of its columns that tensors can hold."""
    columns = [field.name for field in schema if _is_of_tensors(field.type)]
    chosen = "" if len(columns) == len(schema) else f", columns={columns!r}"
    return (
        "import penstock",
        f"loaded = penstock.load({directory!r}, split={split!r}{chosen}).shuffle(seed=1)",
        f"batches = loaded.{library}(batch_size=256, missing='mask')  # each loop over them is an epoch",
    )


def _is_of_tensors(found: pa.DataType) -> bool:
    """Whether all libraries have a type for the values of a column."""
    if pa.types.is_list(found):
        return not pa.types.is_list(found.value_type) and _is_of_tensors(found.value_type)
    is_number = pa.types.is_integer(found) or pa.types.is_floating(found)
    return is_number or pa.types.is_binary(found) or pa.types.is_string(found)
