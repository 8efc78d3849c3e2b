"""Object stores on loopback: moto for S3, Azurite for Azure, fake-gcs-server for Google Cloud Storage.

They keep their objects in memory. Whoever starts one has the URL of a bucket, and the environment variables by which a
user of that cloud says where the store is, and who he is. `at` gives the same bucket by way of a proxy.
"""

import abc
import base64
import contextlib
import dataclasses
import email.utils
import functools
import hashlib
import hmac
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar

from deploy.flink.service import Service, free_port
from services.packages import CACHE

FAKE_GCS_SERVER = "v1.56.1"
_FAKE_GCS_MODULE = "github.com/fsouza/fake-gcs-server"

_HERE = pathlib.Path(__file__).parent
_AZURITE_LOCK = _HERE / "azurite" / "package-lock.json"
_AZURITE_MAIN = pathlib.Path("node_modules", "azurite", "dist", "src", "blob", "main.js")
_AZURE_VERSION = "2024-11-04"
_BUILD_SECONDS, _START_SECONDS, _REQUEST_SECONDS = 1200, 60, 30


@dataclasses.dataclass(frozen=True)
class ObjectStore:
    """A bucket, or a container, of a store.

    Attributes:
      url: of the bucket, with no slash at its end: `s3://bucket`.
      endpoint: of the store, or of a proxy before it: `http://127.0.0.1:PORT`.
      env: what a user sets so that clients find the store and may use it.
    """

    url: str
    endpoint: str
    env: Mapping[str, str]

    @property
    def bucket(self) -> str:
        """The name of the bucket."""
        return self.url.partition("://")[2]


class Emulator(abc.ABC):
    """A store that runs on a port of the loopback interface, between `start` and `stop`."""

    name: ClassVar[str]
    scheme: ClassVar[str]

    def __init__(self, folder: pathlib.Path, command: Sequence[str | os.PathLike[str]], env: Mapping[str, str] = {}):
        """The port stands for `{port}` in the command; its log, and files that it needs, go to a folder."""
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._names = (f"penstock-{number}" for number in itertools.count(1))
        leashed = [sys.executable, "-I", "-S", _HERE / "leash.py", *(self._filled(part) for part in command)]
        self._service = Service(self.name, leashed, folder, {"TMPDIR": str(folder), **env})

    def _filled(self, part: str | os.PathLike[str]) -> str:
        return os.fspath(part).replace("{port}", str(self.port))

    def start(self) -> None:
        """Starts it, and returns once it answers.

        Raises:
          RuntimeError: when it does not; with the end of its log.
        """
        self._service.start()
        try:
            self._service.wait_for(self._answers, _START_SECONDS)
        except BaseException:
            self._service.kill()
            raise

    def stop(self) -> None:
        """Ends it; its objects are gone."""
        self._service.stop()

    def new_bucket(self) -> ObjectStore:
        """An empty bucket that nobody else has."""
        name = next(self._names)
        self._create_bucket(name)
        return self.at(self.endpoint, name)

    def at(self, endpoint: str, bucket: str) -> ObjectStore:
        """A bucket of this store, reached by way of an endpoint."""
        return ObjectStore(f"{self.scheme}://{bucket}", endpoint, self._variables(endpoint))

    def _answers(self) -> bool:
        try:
            self._request("GET", "/")
        except urllib.error.HTTPError:
            return True  # such as 400: what it was asked for does not matter
        except OSError:
            return False
        return True

    def _request(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = {}) -> None:
        request = urllib.request.Request(self.endpoint + path, body or None, dict(headers), method=method)
        with urllib.request.urlopen(request, timeout=_REQUEST_SECONDS):
            pass

    @abc.abstractmethod
    def _create_bucket(self, name: str) -> None: ...

    @abc.abstractmethod
    def _variables(self, endpoint: str) -> dict[str, str]: ...


class S3(Emulator):
    """moto's S3: any key is taken for right, each region for there."""

    name, scheme = "moto", "s3"

    def __init__(self, folder: pathlib.Path):
        super().__init__(folder, [sys.executable, _HERE / "moto_program.py", "{port}"])

    def _create_bucket(self, name: str) -> None:
        self._request("PUT", f"/{name}")

    def _variables(self, endpoint: str) -> dict[str, str]:
        keys = {"AWS_ACCESS_KEY_ID": "penstock", "AWS_SECRET_ACCESS_KEY": "not-a-secret"}
        return {**keys, "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": endpoint}


class Azure(Emulator):
    """Azurite's blobs, of one account; a request that is not signed with its key is refused."""

    name, scheme = "azurite", "az"
    account = "penstock"
    # No account that there is has this key.
    key = base64.b64encode(hashlib.sha512(b"penstock").digest()).decode()

    def __init__(self, folder: pathlib.Path, program: pathlib.Path):
        """The program is what `azurite_program` gives."""
        quiet = ("--silent", "--disableTelemetry", "--skipApiVersionCheck", "--inMemoryPersistence")
        command = ["node", program, "--blobHost", "127.0.0.1", "--blobPort", "{port}", *quiet]
        super().__init__(folder, command, {"AZURITE_ACCOUNTS": f"{self.account}:{self.key}"})

    def _create_bucket(self, name: str) -> None:
        own = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": _AZURE_VERSION}
        lines = "".join(f"{header}:{value}\n" for header, value in own.items())
        # Twice the account: once as the owner, once as the beginning of a path of the emulator.
        signed = f"PUT{12 * chr(10)}{lines}/{self.account}/{self.account}/{name}\nrestype:container"
        digest = hmac.digest(base64.b64decode(self.key), signed.encode(), "sha256")
        authorization = f"SharedKey {self.account}:{base64.b64encode(digest).decode()}"
        path = f"/{self.account}/{name}?restype=container"
        self._request("PUT", path, headers={**own, "Authorization": authorization})

    def _variables(self, endpoint: str) -> dict[str, str]:
        parts = {
            "DefaultEndpointsProtocol": "http",
            "AccountName": self.account,
            "AccountKey": self.key,
            "BlobEndpoint": f"{endpoint}/{self.account}",
        }
        return {
            "AZURE_STORAGE_ACCOUNT": self.account,
            "AZURE_STORAGE_KEY": self.key,
            "AZURE_STORAGE_CONNECTION_STRING": "".join(f"{name}={value};" for name, value in parts.items()),
        }


class Gcs(Emulator):
    """fake-gcs-server: anybody may do anything."""

    name, scheme = "fake-gcs-server", "gs"
    project = "penstock-tests"

    def __init__(self, folder: pathlib.Path, program: pathlib.Path):
        """The program is what `fake_gcs_program` gives."""
        # The public host has no port, so that a request which names a proxy's port is taken too.
        flags = ("-scheme=http", "-host=127.0.0.1", "-port={port}", "-public-host=127.0.0.1", "-backend=memory")
        super().__init__(folder, [program, *flags, "-log-level=warn"])

    def at(self, endpoint: str, bucket: str) -> ObjectStore:
        """A bucket by way of an endpoint; from now on the store's own links go there too, whoever asks."""
        self._request("PUT", "/_internal/config", json.dumps({"externalUrl": endpoint}).encode())
        return super().at(endpoint, bucket)

    def _create_bucket(self, name: str) -> None:
        body = json.dumps({"name": name}).encode()
        self._request("POST", f"/storage/v1/b?project={self.project}", body, {"Content-Type": "application/json"})

    def _variables(self, endpoint: str) -> dict[str, str]:
        return {"STORAGE_EMULATOR_HOST": endpoint, "GOOGLE_CLOUD_PROJECT": self.project}


@contextlib.contextmanager
def running(emulator: Emulator) -> Iterator[Emulator]:
    """A store, for as long as the block lasts."""
    emulator.start()
    try:
        yield emulator
    finally:
        emulator.stop()


@contextlib.contextmanager
def emulators(folder: pathlib.Path) -> Iterator[Callable[[str], Emulator]]:
    """Starts the store of a scheme when it is first asked for; they run for as long as the block lasts.

    Args:
      folder: takes what they write; the programs that are built or installed for them are kept for all (`CACHE`).
    """
    with contextlib.ExitStack() as stack:

        @functools.cache
        def emulator_of(scheme: str) -> Emulator:
            own = folder / scheme
            own.mkdir()
            match scheme:
                case S3.scheme:
                    emulator: Emulator = S3(own)
                case Azure.scheme:
                    emulator = Azure(own, azurite_program(CACHE))
                case _:
                    emulator = Gcs(own, fake_gcs_program(CACHE))
            return stack.enter_context(running(emulator))

        yield emulator_of


def azurite_program(folder: pathlib.Path) -> pathlib.Path:
    """Azurite's script for blobs, below a folder that keeps it: 186 MB, installed once, as its lock says.

    Raises:
      RuntimeError: when npm is missing, or fails.
    """
    installed = folder.resolve() / f"azurite-{hashlib.sha256(_AZURITE_LOCK.read_bytes()).hexdigest()[:8]}"
    if not installed.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as build:
            partial = shutil.copytree(_AZURITE_LOCK.parent, pathlib.Path(build, "azurite"))
            _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(partial)], {})
            try:
                partial.rename(installed)
            except OSError:
                if not installed.exists():  # else somebody else was faster
                    raise
    return installed / _AZURITE_MAIN


def fake_gcs_program(folder: pathlib.Path) -> pathlib.Path:
    """fake-gcs-server, built in a folder once: two minutes on a machine that has nothing else to do, 38 MB.

    Raises:
      RuntimeError: when Go is missing, or fails.
    """
    binary = folder.resolve() / f"fake-gcs-server-{FAKE_GCS_SERVER}"
    if not binary.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as build:
            command = ["go", "install", f"{_FAKE_GCS_MODULE}@{FAKE_GCS_SERVER}"]
            _run(command, {"GOBIN": str(pathlib.Path(build).resolve())})
            pathlib.Path(build, "fake-gcs-server").rename(binary)
    return binary


def _run(command: Sequence[str], env: Mapping[str, str]) -> None:
    if shutil.which(command[0]) is None:
        raise RuntimeError(f"not in the PATH: {command[0]}")
    done = subprocess.run(
        command, env={**os.environ, **env}, capture_output=True, text=True, check=False, timeout=_BUILD_SECONDS
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-3000:]}")
