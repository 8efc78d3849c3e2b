"""Tests on each store for what the store itself decides, on one of them for what Penstock does: the rest are soaks."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

STORES = ("s3", "az", "gs")


def on_stores(*here: str) -> pytest.MarkDecorator:
    """For a test that runs on these stores; on the others it is a soak."""
    return pytest.mark.parametrize("emulator", [_on(store, (), store in here) for store in STORES], indirect=True)


def dealt(
    name: str, cases: Sequence[Any], first: str = "s3", ids: Callable[[Any], str] = str, indirect: bool = False
) -> pytest.MarkDecorator:
    """For a test that runs with each case on one store, these in turn from the first one; on the others it is a soak.

    Args:
      name: of the argument that is a case.
      indirect: the argument is a fixture with a parameter.
    """
    shift = STORES.index(first)
    found = [
        _on(store, (case,), (place + shift) % len(STORES) == number, f"{store}-{ids(case)}")
        for number, store in enumerate(STORES)
        for place, case in enumerate(cases)
    ]
    return pytest.mark.parametrize(("emulator", name), found, indirect=["emulator", *([name] if indirect else [])])


def _on(store: str, more: tuple[Any, ...], is_here: bool, id: str | None = None) -> Any:
    integration = () if store == "s3" else pytest.mark.integration
    return pytest.param(store, *more, id=id or store, marks=integration if is_here else pytest.mark.soak)


# For a test that runs on each; only moto's S3 is so small that it runs in `make test`.
ALL_STORES = [_on(store, (), True) for store in STORES]
