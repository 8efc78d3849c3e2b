"""Jobs at a runner: their ids, which portable runners keep in a private attribute (no issue is filed at Beam)."""

from typing import Any


def job_id(result: Any) -> str:
    """The id of the job that `Pipeline.run` started, as its runner has it; "" where it has none.

    It is a method on Dataflow, a private attribute on portable runners.
    """
    found = getattr(result, "job_id", None) or getattr(result, "_job_id", "")
    return str(found() if callable(found) else found)
