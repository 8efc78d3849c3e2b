"""TensorFlow Data Validation: `generate_statistics_from_csv`."""

from typing import Any

import tensorflow_data_validation as tfdv
from _beam import pipeline_options
from _proto import columns
from _protocol import Task, main


def job(task: Task) -> Any:
    """Setting: how Beam's workers run."""
    return tfdv.generate_statistics_from_csv(
        task.input, output_path=task.path("statistics.pb"), pipeline_options=pipeline_options(task.setting)
    )


if __name__ == "__main__":
    main(job, tell=columns)
