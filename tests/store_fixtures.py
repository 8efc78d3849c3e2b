"""Object stores for tests: moto for all, Azurite and fake-gcs-server for those that run as `integration`."""

import pathlib

import pytest
from services.object_stores import S3, Azure, Gcs, azurite_program, fake_gcs_program, running

# Where what is built or installed once is kept.
_PROGRAMS = pathlib.Path.home() / ".cache" / "penstock-tests"

ALL_STORES = [
    "s3",
    pytest.param("az", marks=pytest.mark.integration),
    pytest.param("gs", marks=pytest.mark.integration),
]


@pytest.fixture(scope="module", params=ALL_STORES)
def emulator(request, tmp_path_factory):
    """Each store, one after the other."""
    with running(_emulator(request.param, tmp_path_factory.mktemp(request.param))) as started:
        yield started


def _emulator(scheme, folder):
    match scheme:
        case "s3":
            return S3(folder)
        case "az":
            return Azure(folder, azurite_program(_PROGRAMS))
        case _:
            return Gcs(folder, fake_gcs_program(_PROGRAMS))


@pytest.fixture
def bucket(emulator, monkeypatch):
    """The URL of an empty bucket, which this process may use."""
    found = emulator.new_bucket()
    for name, value in found.env.items():
        monkeypatch.setenv(name, value)
    return found.url
