"""Versions of packages."""

import functools
import importlib.metadata

from penstock import __version__

_PACKAGES = ("apache-beam", "pyarrow", "numpy", "isal", "tensorflow-metadata", "tensorflow-transform", "tensorflow")


def package_versions() -> dict[str, str]:
    """Versions of the packages that shape the bytes of a dataset, as far as they are installed."""
    versions = {package: version for package in _PACKAGES if (version := _installed(package)) is not None}
    return {"penstock": __version__, **versions}


@functools.cache
def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
