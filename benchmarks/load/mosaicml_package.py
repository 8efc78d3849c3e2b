"""The package `mosaicml-streaming` on its own format: `LocalDataset`, which reads MDS sample by sample.

What `StreamingDataset` does besides, for many nodes and stores, is not timed.
"""

import itertools
from collections.abc import Iterator

from _clock import BATCH_ROWS, main
from services.streaming_alone import local_dataset


def read(folder: str) -> Iterator[int]:
    """Yields the rows of each batch, a list of dicts."""
    dataset = local_dataset()(folder, "train")
    samples = (dataset[number] for number in range(len(dataset)))
    while batch := list(itertools.islice(samples, BATCH_ROWS)):
        yield len(batch)


if __name__ == "__main__":
    main(read)
