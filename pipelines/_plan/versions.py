"""Versions of packages."""

import importlib.metadata

from penstock import __version__

_PACKAGES = ("apache-beam", "pyarrow", "numpy", "isal", "tensorflow-metadata", "tensorflow-transform", "tensorflow")


def package_versions() -> dict[str, str]:
    """Versions of the packages that shape the bytes of a dataset, as far as they are installed."""
    versions = {"penstock": __version__}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
