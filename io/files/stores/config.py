"""How stores are reached, as far as flags say; credentials never are among these.

A job tells it of its own process (`configure`). Workers find it in the options of their pipeline, which Beam ships to
them, so a pipeline of your own takes the same flags. Where neither says anything, the clients' own environment
variables and files do.
"""

import argparse
import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import Self

from penstock.io.beam.flags import worker_flags
from penstock.io.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class StoreConfig:
    """What flags say; None where they say nothing.

    Attributes:
      s3_endpoint_url: where an S3 service listens that is not Amazon's.
      s3_region_name: the region of the buckets.
      blob_service_endpoint: where the blobs of an Azure account are.
      gcs_endpoint_url: where a service listens that is not Google's.
      project: Google's project that pays for requests.
      anonymous_stores: read what is public, without credentials.
    """

    s3_endpoint_url: str | None = None
    s3_region_name: str | None = None
    blob_service_endpoint: str | None = None
    gcs_endpoint_url: str | None = None
    project: str | None = None
    anonymous_stores: bool = False

    @classmethod
    def from_arguments(cls, arguments: Sequence[str]) -> Self:
        """What a command line says."""
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        for field in dataclasses.fields(cls):
            parser.add_argument(f"--{field.name}", nargs="?", const="true")
        values = vars(parser.parse_known_args(list(arguments))[0])
        anonymous = values.pop("anonymous_stores") in ("true", "True")
        return cls(**{name: value or None for name, value in values.items()}, anonymous_stores=anonymous)


_KEYS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, or AWS_PROFILE"
_SECRETS = {
    "--s3_access_key_id": _KEYS,
    "--s3_secret_access_key": _KEYS,
    "--s3_session_token": "set AWS_SESSION_TOKEN in the environment",
    "--azure_connection_string": "set AZURE_STORAGE_CONNECTION_STRING in the environment",
}

_configured: StoreConfig | None = None


def check_no_secrets(arguments: Sequence[str]) -> None:
    """Refuses a command line with a secret.

    Raises:
      ConfigError: says where it belongs.
    """
    for argument in arguments:
        if (name := argument.partition("=")[0]) in _SECRETS:
            raise ConfigError(
                f"{name}: others can see a command line, and the options of a job are kept; leave it out, and "
                f"{_SECRETS[name]}"
            )


def configure(config: StoreConfig | None) -> None:
    """Says how this process reaches stores; None, or what says nothing, leaves that to the options of pipelines."""
    global _configured
    _configured = None if config == StoreConfig() else config


def environment(prefix: str) -> tuple[tuple[str, str], ...]:
    """The environment variables of a store, which its clients were made with."""
    return tuple((name, value) for name, value in os.environ.items() if name.startswith(prefix))


def current() -> StoreConfig:
    """How stores are reached."""
    return _configured if _configured is not None else _of_flags(worker_flags())


@functools.lru_cache(maxsize=8)
def _of_flags(flags: tuple[str, ...]) -> StoreConfig:
    return StoreConfig.from_arguments(flags)
