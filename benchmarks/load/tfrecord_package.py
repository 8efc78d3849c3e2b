"""The package `tfrecord`: records as dicts of numpy, which it knows no batches of."""

import glob
import itertools
from collections.abc import Iterator

from _clock import BATCH_ROWS, main
from tfrecord import tfrecord_loader


def read(folder: str) -> Iterator[int]:
    """Yields the rows of each batch."""
    files = sorted(glob.glob(f"{folder}/train/*"))
    packed = "gzip" if files[0].endswith(".gz") else None
    records = itertools.chain.from_iterable(tfrecord_loader(file, None, compression_type=packed) for file in files)
    while rows := sum(1 for _ in itertools.islice(records, BATCH_ROWS)):
        yield rows


if __name__ == "__main__":
    main(read)
