"""Penstock: the main job, `prepare`."""

from _protocol import Task, main

# `run` imports this when it is called; nobody's imports count.
from pipelines._jobs import prepare as prepare
from pipelines.prepare import run


def job(task: Task) -> None:
    """Setting: --shuffle."""
    run(
        [
            f"--input={task.input}",
            f"--output={task.output}",
            f"--schema={task.schema}",
            f"--shuffle={task.setting}",
            f"--output_format={task.shard_format}",
            f"--compression={task.compression}",
            f"--num_shards={task.shards}",
            "--max_reject_fraction=0.05",
        ]
    )


if __name__ == "__main__":
    main(job)
