"""ydata-profiling: pandas reads the file, and a minimal `ProfileReport` describes it.

Its page is not rendered, which takes longer than the description.
"""

from typing import Any

import pandas as pd
from _protocol import Task, main
from data_profiling import ProfileReport

_NUMBERS = {
    "missing": "n_missing",
    "distinct": "n_distinct",
    "mean": "mean",
    "deviation": "std",
    "min": "min",
    "max": "max",
    "median": "50%",
    "zeros": "n_zeros",
}


def job(task: Task) -> Any:
    """Setting: pandas's engine."""
    rows = pd.read_csv(task.input, engine=task.setting)
    return ProfileReport(rows, minimal=True, progress_bar=False).get_description()


def tell(description: Any) -> dict:
    """What it says, of columns of its type Numeric all, of others what all types have."""
    columns = {}
    for name, found in description.variables.items():
        wanted = {key: found[label] for key, label in _NUMBERS.items() if label in found}
        columns[name] = {key: float(value) for key, value in wanted.items() if not isinstance(value, str)}
        columns[name]["top"] = int(found["value_counts_without_nan"].iloc[0])
    return {"rows": int(description.table["n"]), "columns": columns}


if __name__ == "__main__":
    main(job, tell=tell)
