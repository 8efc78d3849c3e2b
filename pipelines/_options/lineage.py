"""The flags of OpenLineage's events, and the environment variables that stand for those that are not given."""

import dataclasses
import logging
import os
import re
from collections.abc import Mapping
from typing import Self

from penstock.io.errors import ConfigError
from pipelines._cli.flags import Options, flag
from pipelines._cli.named import LOG_FILE

_LOGGER = logging.getLogger(__name__)

# Names that all clients of OpenLineage read, https://openlineage.io/docs/client/python
_URL, _ENDPOINT, _KEY = "OPENLINEAGE_URL", "OPENLINEAGE_ENDPOINT", "OPENLINEAGE_API_KEY"
_NAMESPACE, _PARENT, _DISABLED = "OPENLINEAGE_NAMESPACE", "OPENLINEAGE_PARENT_ID", "OPENLINEAGE_DISABLED"

_DEFAULT_ENDPOINT = "api/v1/lineage"
_DEFAULT_NAMESPACE = "default"

_BASE_URL = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class LineageOptions(Options):
    """Who is told of the run, and under which names."""

    title = "lineage"

    openlineage_url: str | None = flag(
        "send OpenLineage's events of the run to this server, such as http://localhost:5000 (default: OPENLINEAGE_URL "
        "of the environment; docs/lineage.md)",
        metavar="URL",
    )
    openlineage_file: str | None = flag(
        "append OpenLineage's events of the run to this file, a line of JSON each", metavar="FILE", names=LOG_FILE
    )
    openlineage_namespace: str | None = flag(
        "namespace of the job in these events (default: OPENLINEAGE_NAMESPACE of the environment, or default)",
        metavar="NAME",
    )
    openlineage_job: str | None = flag(
        "name of the job in these events (default: the name of the job and the last part of OUTPUT, as in "
        "prepare.flights)",
        metavar="NAME",
    )

    def check(self) -> None:
        """Refuses an address that is none, and names of a job that nobody is told of.

        Raises:
          ConfigError: says what to pass.
        """
        if self.openlineage_url is not None:
            _check_url(self.openlineage_url, "--openlineage_url")
        elif self.openlineage_file is None and not os.environ.get(_URL):
            for name in ("openlineage_namespace", "openlineage_job"):
                if getattr(self, name) is not None:
                    raise ConfigError(
                        f"--{name} is for the events of --openlineage_url or --openlineage_file: pass one of them"
                    )


@dataclasses.dataclass(frozen=True)
class LineageTarget:
    """Who is told of a run, by flags and environment.

    Attributes:
      url: where events are sent to, whole; None for nowhere.
      is_from_environment: whether the environment names the server, and no flag.
      api_key: what authorizes that; it is never shown.
      file: where events are appended to.
      namespace: of the job.
      job: its name, where it is given.
      parent: what started the run, as `NAMESPACE/NAME/RUN_ID`.
    """

    url: str | None
    is_from_environment: bool
    api_key: str | None = dataclasses.field(repr=False)
    file: str | None
    namespace: str
    job: str | None
    parent: str | None

    @classmethod
    def of(cls, options: LineageOptions, environment: Mapping[str, str] = os.environ) -> Self | None:
        """Returns None where nobody is told, or OPENLINEAGE_DISABLED says so."""
        if environment.get(_DISABLED, "").strip().lower() == "true":
            return None
        url = options.openlineage_url or _url_of(environment)
        if url is None and options.openlineage_file is None:
            return None
        endpoint = environment.get(_ENDPOINT) or _DEFAULT_ENDPOINT
        return cls(
            url=None if url is None else f"{url.rstrip('/')}/{endpoint.lstrip('/')}",
            is_from_environment=options.openlineage_url is None,
            api_key=_key_of(environment),
            file=options.openlineage_file,
            namespace=options.openlineage_namespace or environment.get(_NAMESPACE) or _DEFAULT_NAMESPACE,
            job=options.openlineage_job,
            parent=environment.get(_PARENT) or None,
        )

    @property
    def described(self) -> str:
        """The places that events go to."""
        source = " (OPENLINEAGE_URL)" if self.is_from_environment else ""
        url = None if self.url is None else f"{self.url}{source}"
        return " and ".join(filter(None, (url, self.file)))


def _url_of(environment: Mapping[str, str]) -> str | None:
    """The server of the environment; one that is wrong there is warned of, and fails no job."""
    url = environment.get(_URL) or None
    if url is not None:
        try:
            _check_url(url, _URL)
        except ConfigError as error:
            _LOGGER.warning("%s; no events are sent", error)
            return None
    return url


def _key_of(environment: Mapping[str, str]) -> str | None:
    """The key; a line break in a header would end the header, and the error of it would show the key."""
    key = environment.get(_KEY, "").strip()
    if key and not (key.isascii() and key.isprintable()):
        _LOGGER.warning("%s has characters that no header can have, and is left out", _KEY)
        return None
    return key or None


def _check_url(url: str, what: str) -> None:
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise ConfigError(f"{what}: must not hold credentials: leave them out, and set {_KEY} in the environment")
    if not _BASE_URL.fullmatch(url):
        raise ConfigError(f"{what} must be http(s)://HOST[:PORT][/PATH], got {url!r}")
