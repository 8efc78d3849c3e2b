"""Which features need an extra of Penstock, and the errors that say so; nothing heavy is imported to find out.

===========================  =============  =======================================
what                         extra          what must be importable
===========================  =============  =======================================
`gs://`, DataflowRunner      `gcp`          `google.cloud.storage`
`s3://`                      `aws`          `obstore`, `boto3`
`az://`, `azfs://`           `azure`        `obstore`, `azure.identity`
`kafka://`                   `kafka`        `confluent_kafka`
features                     `tft`          `tensorflow_transform`
shards of ArrayRecord        `arrayrecord`  `array_record.python`
`--metrics_port`             `metrics`      `prometheus_client`
batches for PyTorch          `torch`        `torch`
===========================  =============  =======================================

`hdfs://` needs a package that only Beam has an extra for. Beam knows no other schemes, unless a program registers a
filesystem of its own.
"""

import dataclasses
import difflib
import importlib.util
import re
import sys
from collections.abc import Sequence

from penstock.io.errors import ConfigError, MissingExtraError


@dataclasses.dataclass(frozen=True)
class Extra:
    """Packages that not everybody needs.

    Attributes:
      requirement: what to install, as pip takes it.
      brings: what it brings, in a few words.
      modules: what can be imported then.
    """

    requirement: str
    brings: str
    modules: tuple[str, ...]

    @property
    def is_installed(self) -> bool:
        """Whether its modules can be found; they are not imported."""
        return all(map(_is_found, self.modules))

    def missing(self, purpose: str) -> MissingExtraError:
        """The error for something that is asked for without it."""
        return MissingExtraError(f"{purpose} needs {self.brings}: pip install '{self.requirement}'")

    def require(self, purpose: str) -> None:
        """Refuses what needs it where it is not installed.

        Raises:
          MissingExtraError: says what to install.
        """
        if not self.is_installed:
            raise self.missing(purpose)


def _is_found(module: str) -> bool:
    try:
        spec = importlib.util.find_spec(module)
    except ImportError:  # of a package around it
        return False
    return spec is not None and spec.origin is not None  # a mere folder of that name has none


GCP = Extra(".[gcp]", "Google's libraries", ("google.cloud.storage",))
AWS = Extra(".[aws]", "obstore and boto3", ("obstore", "boto3"))
AZURE = Extra(".[azure]", "obstore and azure-identity", ("obstore", "azure.identity"))
HADOOP = Extra("apache-beam[hadoop]", "the package hdfs", ("hdfs",))
KAFKA = Extra(".[kafka]", "confluent-kafka", ("confluent_kafka",))
ARRAYRECORD = Extra(".[arrayrecord]", "array_record", ("array_record.python.array_record_module",))
METRICS = Extra(".[metrics]", "prometheus-client", ("prometheus_client",))
TORCH = Extra(".[torch]", "PyTorch", ("torch",))
TFT = Extra(".[tft]", "tensorflow-transform", ("tensorflow_transform",))

_FILESYSTEMS = {"gs": GCP, "s3": AWS, "az": AZURE, "azfs": AZURE, "hdfs": HADOOP}
_RUNNERS = {"dataflowrunner": GCP}

# As Beam reads it.
_SCHEME = re.compile(r"([a-zA-Z][-a-zA-Z0-9+.]*)://")

# The filesystems behind these schemes would take it for a part of the name of a bucket or host.
_PASSWORD = re.compile(r"[^/?#]*:[^/?#]*@")

# What others call the filesystems, to what they are called here.
_MEANT = {"abfs": "az", "abfss": "az", "wasb": "az", "wasbs": "az", "s3a": "s3", "gcs": "gs"}


def check_filesystem(uri: str, what: str = "", sources: Sequence[str] = ()) -> None:
    """Refuses a file or folder on a filesystem that cannot be reached from here; a plain path passes.

    Args:
      uri: where it is.
      what: what it is, such as a flag with its value.
      sources: schemes of what is no filesystem and could stand here, for the message.

    Raises:
      MissingExtraError: when an extra is missing.
      ConfigError: for a scheme that nobody knows, and for a password in the URL, which the message leaves out.
    """
    found = _SCHEME.match(uri.strip())
    if found is None:
        return
    scheme = found[1]
    if scheme in _FILESYSTEMS:
        if _PASSWORD.match(uri.strip(), found.end()):
            raise ConfigError(
                f"{what.partition(' ')[0] or 'a file'}: a {scheme}:// URL must not hold a password, which would be "
                "stored and logged; give it to the client (environment, profile), and take it out of the URL"
            )
        _FILESYSTEMS[scheme].require(f"{what or uri}: {scheme}://")
    elif not _is_registered(scheme):
        hint = _hint(scheme, (*_FILESYSTEMS, *sources))
        raise ConfigError(f"{what or uri}: no filesystem is known for {scheme}://; {hint}")


def _is_registered(scheme: str) -> bool:
    """Whether the program has a filesystem of its own: a subclass of Beam's, which is loaded then."""
    beam = sys.modules.get("apache_beam.io.filesystem")
    return beam is not None and any(kind.scheme() == scheme for kind in beam.FileSystem.get_all_subclasses())


def _hint(scheme: str, known: Sequence[str]) -> str:
    if scheme == "file":
        return "name a local file by its path alone"
    nearest = _MEANT.get(scheme) or next(iter(difflib.get_close_matches(scheme, known, n=1)), None)
    if nearest:
        return f"did you mean {nearest}://?"
    return f"known are local paths, {', '.join(f'{name}://' for name in known)}"


def check_runner(name: str) -> None:
    """Refuses a runner of Beam that needs an extra, where that is not installed.

    Raises:
      MissingExtraError: says what to install.
    """
    extra = _RUNNERS.get(name.rpartition(".")[2].lower())
    if extra is not None:
        extra.require(f"--runner={name}")
