"""grain on ArrayRecord: its records in order, in batches, as bytes or parsed by `tf.io.parse_example`; one thread."""

import glob
from collections.abc import Callable, Iterator

import grain
from _clock import BATCH_ROWS, main


def read(folder: str, kind: str = "bytes") -> Iterator[int]:
    """Yields the rows of each batch, of which `kind` is `bytes` or `parsed`."""
    source = grain.sources.ArrayRecordDataSource(sorted(glob.glob(f"{folder}/train/*")))
    batches = grain.MapDataset.source(source).batch(BATCH_ROWS, batch_fn=list)
    parse = _parse(folder) if kind == "parsed" else len
    for batch in batches.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)):
        parse(batch)
        yield len(batch)


def _parse(folder: str) -> Callable[[list[bytes]], object]:
    import tf_data

    spec = tf_data.spec_of(folder)
    return lambda batch: tf_data.tf.io.parse_example(batch, spec)


if __name__ == "__main__":
    main(read)
