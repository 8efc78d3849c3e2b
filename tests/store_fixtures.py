"""Object stores for tests: moto for all, Azurite and fake-gcs-server for those that run as `integration`."""

import pytest
from dealt import ALL_STORES


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
