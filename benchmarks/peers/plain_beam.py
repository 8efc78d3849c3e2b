"""Beam as its documentation has it: ReadFromText | Map(parse) | Filter | Map(tf.train.Example) | WriteToTFRecord."""

import apache_beam as beam
from _beam import ReadGoodRows, pipeline_options
from _protocol import Task, main
from _rows import ExampleEncoder


def job(task: Task) -> None:
    """Setting: how Beam's workers run."""
    with beam.Pipeline(options=pipeline_options(task.setting)) as pipeline:
        _ = (
            pipeline
            | ReadGoodRows(task)
            | beam.Map(ExampleEncoder(task.columns).encode)
            | beam.io.WriteToTFRecord(task.path("part"), file_name_suffix=task.suffix, num_shards=task.shards)
        )


if __name__ == "__main__":
    main(job)
