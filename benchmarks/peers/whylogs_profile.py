"""whylogs: pandas reads the file, and `why.log` profiles it."""

import math
from typing import Any

import pandas as pd
import whylogs as why
from _protocol import Task, main

_NUMBERS = {
    "missing": "counts/null",
    "distinct": "cardinality/est",
    "mean": "distribution/mean",
    "deviation": "distribution/stddev",
    "min": "distribution/min",
    "max": "distribution/max",
    "median": "distribution/median",
}
_TEXTS = ("missing", "distinct")
_TOP = "frequent_items/frequent_strings"


def job(task: Task) -> Any:
    """Setting: pandas's engine."""
    view = why.log(pandas=pd.read_csv(task.input, engine=task.setting)).view()
    view.write(task.path("profile.bin"))
    return view


def tell(view: Any) -> dict:
    """What the profile says, of texts without the numbers of a distribution that is empty."""
    columns = {}
    for name, row in view.to_pandas().iterrows():
        wanted = _NUMBERS if row.get("distribution/n", 0) > 0 else _TEXTS
        found = {key: float(row[_NUMBERS[key]]) for key in wanted}
        columns[name] = {key: value for key, value in found.items() if math.isfinite(value)}
        if isinstance(row.get(_TOP), list) and row[_TOP]:
            columns[name]["top"] = row[_TOP][0].est
    return {"rows": int(view.to_pandas()["counts/n"].max()), "columns": columns}


if __name__ == "__main__":
    main(job, tell=tell)
