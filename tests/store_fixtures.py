"""Object stores for tests: moto for all, Azurite and fake-gcs-server for those that run as `integration`."""

import pytest
from dealt import STORES

ALL_STORES = ["s3", *(pytest.param(store, marks=pytest.mark.integration) for store in STORES[1:])]


@pytest.fixture(params=ALL_STORES)
def emulator(request, emulator_of):
    """Each store, one after the other."""
    return emulator_of(request.param)


@pytest.fixture
def bucket(emulator, monkeypatch):
    """The URL of an empty bucket, which this process may use."""
    found = emulator.new_bucket()
    for name, value in found.env.items():
        monkeypatch.setenv(name, value)
    return found.url
