"""TensorFlow Datasets: its Beam writer under `store_as_tfds_dataset`, over the rows of plain Beam.

A key must be unique, and orders the examples; CSV has none, so it is the row.
"""

import apache_beam as beam
import numpy as np
import tensorflow_datasets as tfds
from _beam import ReadGoodRows, pipeline_options
from _protocol import Task, main

_TYPES = {"int": np.int64, "float": np.float32}


def keyed(row: dict) -> tuple[str, dict]:
    """The row under its key."""
    return repr(tuple(row.values())), row


def job(task: Task) -> None:
    """Setting: shuffled (TFDS's default) or unordered (`nondeterministic_order`), and how Beam's workers run."""
    order, workers = task.setting.split(" ", 1)
    features = {
        column["name"]: tfds.features.Text() if column["kind"] == "bytes" else np.dtype(_TYPES[column["kind"]])
        for column in task.columns
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name="trips",
        version="1.0.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets={"train": ReadGoodRows(task) | beam.Map(keyed)},
        data_dir=task.output,
        download_config=tfds.download.DownloadConfig(
            beam_options=pipeline_options(workers),
            num_shards=task.shards,
            nondeterministic_order=order == "unordered",
            try_download_gcs=False,
        ),
    )


if __name__ == "__main__":
    main(job)
