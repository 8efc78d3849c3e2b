"""`penstock.load(...).batches`, one thread."""

from collections.abc import Iterator

from _clock import BATCH_ROWS, main

import penstock


def read(folder: str) -> Iterator[int]:
    """Yields the rows of each batch."""
    for batch in penstock.load(folder, split="train").batches(BATCH_ROWS):
        yield batch.num_rows


if __name__ == "__main__":
    main(read)
