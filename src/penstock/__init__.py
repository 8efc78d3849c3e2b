"""Penstock: raw records in, verified training data out.

Sources and sinks live in `penstock.io`, transforms in `penstock.transforms`, and the jobs that wire them in
`pipelines` (`penstock prepare --help`). `penstock.load` reads what they wrote.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.io.dataset.load.dataset import load as load

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Imports `load`, and Arrow with it, when it is first used."""
    if name == "load":
        from penstock.io.dataset.load.dataset import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
