"""The package `webdataset` on its own format: members decoded by their extensions, samples in batches of lists."""

import glob
from collections.abc import Iterator

import webdataset
from _clock import BATCH_ROWS, main


def read(folder: str) -> Iterator[int]:
    """Yields the rows of each batch."""
    files = sorted(glob.glob(f"{folder}/train/*"))
    samples = webdataset.WebDataset(files, shardshuffle=False, empty_check=False).decode()
    for batch in samples.batched(BATCH_ROWS, collation_fn=list):
        yield len(batch)


if __name__ == "__main__":
    main(read)
