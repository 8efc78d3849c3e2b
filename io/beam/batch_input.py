"""What is no batch is refused in words: the error names the adapter that makes batches of it."""

from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.typehints import typehints
from apache_beam.typehints.decorators import TypeCheckError
from apache_beam.typehints.schemas import named_fields_from_element_type

from penstock.io.errors import ConfigError


class TakesBatches:
    """Mixin of PTransforms that take a `PCollection[pyarrow.RecordBatch]`; it stands before the PTransform."""

    def type_check_inputs(self, pvalueish: Any) -> None:
        """Checks the type of elements when the pipeline is built.

        Raises:
          TypeCheckError: for another type; the message names the transform that makes batches of it.
        """
        element_type = getattr(pvalueish, "element_type", typehints.Any)
        if not typehints.is_consistent_with(element_type, pa.RecordBatch):
            raise TypeCheckError(_refusal(type(self).__name__, _type_name(element_type), adapter_for(element_type)))
        super().type_check_inputs(pvalueish)  # type: ignore[misc]


def only_batches(elements: beam.PCollection[Any], transform: str) -> beam.PCollection[pa.RecordBatch]:
    """Returns the elements; where Beam does not know their type, adds a step that fails for what is no batch.

    Args:
      elements: as they came in.
      transform: the name of the transform that takes them, for the message.
    """
    if elements.element_type is pa.RecordBatch:
        return elements
    return elements | "OnlyBatches" >> beam.Map(_check_batch, transform).with_output_types(pa.RecordBatch)


def _check_batch(element: Any, transform: str) -> pa.RecordBatch:
    if not isinstance(element, pa.RecordBatch):
        raise ConfigError(_refusal(transform, type(element).__name__, adapter_for(type(element))))
    return element


def _refusal(transform: str, found: str, adapter: str | None) -> str:
    remedy = f"put {adapter}() before it" if adapter else "an adapter such as FromDicts() makes batches of rows"
    return f"{transform} takes pyarrow.RecordBatch, got {found}: {remedy}"


def _type_name(element_type: Any) -> str:
    """Writes a type as Beam does for generic ones, and else by its name."""
    return element_type.__name__ if isinstance(element_type, type) else str(element_type)


def adapter_for(element_type: Any) -> str | None:
    """Returns the name of the transform that makes batches of elements of a type; None if there is none.

    >>> adapter_for(dict), adapter_for(bytes), adapter_for(int)
    ('FromDicts', 'FromMessages', None)
    """
    if isinstance(element_type, typehints.DictConstraint) or _is_subclass(element_type, dict):
        return "FromDicts"
    if _is_subclass(element_type, bytes):
        return "FromMessages"
    if _is_subclass(element_type, pa.Table) or getattr(element_type, "__name__", "") == "DataFrame":
        return "FromTables"
    return "FromRows" if is_row_type(element_type) else None


def is_row_type(element_type: Any) -> bool:
    """Whether elements of a type are rows that Beam knows the fields of, or any rows."""
    if _is_subclass(element_type, beam.Row):
        return True
    try:
        named_fields_from_element_type(element_type)
    except (TypeError, ValueError, AttributeError):
        return False
    return True


def _is_subclass(element_type: Any, parent: type) -> bool:
    return isinstance(element_type, type) and issubclass(element_type, parent)
