"""`penstock.load(...).torch`, one thread; of texts objects of Python, or with the option `ragged` their bytes."""

from collections.abc import Iterator

import torch
from _clock import BATCH_ROWS, main

import penstock

torch.set_num_threads(1)


def read(folder: str, texts: str = "objects") -> Iterator[int]:
    """Yields the rows of each batch."""
    for batch in penstock.load(folder, split="train").torch(BATCH_ROWS, texts=texts):
        column = next(iter(batch.values()))
        yield len(column.row_splits) - 1 if hasattr(column, "row_splits") else len(column)


if __name__ == "__main__":
    main(read)
