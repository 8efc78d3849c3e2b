"""A real Prometheus on loopback, of Debian's package: the one in the PATH, or one that is fetched and unpacked."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import uuid
from typing import Any

from deploy.flink.service import Service, free_port

_PACKAGE = "prometheus"


def prometheus_binary(folder: pathlib.Path) -> str:
    """The path of the program, below a folder that keeps it: 19 MB, fetched once, and not installed.

    Raises:
      RuntimeError: when it is neither here nor can be fetched; says what to install.
    """
    if found := shutil.which(_PACKAGE):
        return found
    unpacked = folder / "prometheus-debian"
    if not unpacked.exists():
        with tempfile.TemporaryDirectory() as build:
            _fetch(pathlib.Path(build))
            folder.mkdir(parents=True, exist_ok=True)
            partial = folder / f"prometheus-{uuid.uuid4().hex}"
            shutil.move(pathlib.Path(build) / "root", partial)
            partial.rename(unpacked)
    return str(unpacked / "usr" / "bin" / _PACKAGE)


def _fetch(build: pathlib.Path) -> None:
    try:
        # An old list of packages may name a version that is gone; a user other than root cannot renew it.
        subprocess.run(["apt-get", "update"], cwd=build, capture_output=True, check=False)
        subprocess.run(["apt-get", "download", _PACKAGE], cwd=build, capture_output=True, check=True)
        (package,) = build.glob("*.deb")
        subprocess.run(["dpkg", "-x", package, build / "root"], capture_output=True, check=True)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise RuntimeError(f"no {_PACKAGE} in the PATH, and apt-get cannot fetch it: {error}") from error


class Prometheus:
    """A server that asks some targets each second, with its data in a folder."""

    def __init__(self, folder: pathlib.Path, binary: str, *targets: str):
        self._port = free_port()
        config = {
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [{"job_name": "penstock", "static_configs": [{"targets": list(targets)}]}],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
        flags = (f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}")
        self._service = Service(
            "prometheus", [binary, *flags, f"--web.listen-address=127.0.0.1:{self._port}"], folder, dict(os.environ)
        )

    def start(self) -> None:
        """Starts it, and returns once it answers."""
        self._service.start()
        self._service.wait_for(lambda: self._answer("/-/ready") is not None, 60)

    def stop(self) -> None:
        """Ends it."""
        self._service.stop()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples that an expression gives now, each with `metric` and `value`."""
        answer = self._answer(f"/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
        return [] if answer is None else json.loads(answer)["data"]["result"]

    def _answer(self, path: str) -> bytes | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=10) as answer:
                return bytes(answer.read())
        except (urllib.error.URLError, OSError):
            return None
