"""What a PCollection is made of, while the graph is built."""

from collections.abc import Iterator
from typing import Any

import apache_beam as beam


def transforms_behind(values: beam.PCollection[Any]) -> Iterator[beam.PTransform[Any, Any]]:
    """Yields the transforms that values come from, composites and what is behind side inputs included, each once."""
    waiting, seen = [values.producer], set[int]()
    while waiting:
        applied = waiting.pop()
        if applied is None or id(applied) in seen:
            continue
        seen.add(id(applied))
        if applied.transform is not None:
            yield applied.transform
        waiting += [applied.parent, *(value.producer for value in applied.inputs)]
        waiting += [side.pvalue.producer for side in applied.side_inputs]
