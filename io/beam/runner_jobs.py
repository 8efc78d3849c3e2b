"""The ids of jobs, which portable runners keep in a private attribute (no issue is filed at Beam)."""

from typing import Any


def job_id(result: Any) -> str:
    """Returns the runner's id of the job that `Pipeline.run` started; "" if the runner has none.

    Dataflow has a method for it, portable runners a private attribute.
    """
    found = getattr(result, "job_id", None) or getattr(result, "_job_id", "")
    return str(found() if callable(found) else found)
