"""`gs://BUCKET/key`: Google Cloud Storage, by Google's own library.

Credentials are found as Google's tools find them (application default credentials). `STORAGE_EMULATOR_HOST` names an
emulator, which wants none.
"""

import functools
import io
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import requests
from google.api_core import exceptions
from google.auth import default
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError
from google.cloud import storage  # type: ignore[attr-defined]
from urllib3.exceptions import HTTPError

from penstock.io.errors import ConfigError
from penstock.io.files.stores.config import StoreConfig, current
from penstock.io.files.stores.objects import Bucket, ObjectStore
from penstock.io.files.stores.reading import WAITING_THREADS, in_parallel
from penstock.io.files.stores.retries import Refused, Requests
from penstock.io.files.stores.writing import PIECE_BYTES, Upload

_CREDENTIALS = (
    "log in (gcloud auth application-default login), or set GOOGLE_APPLICATION_CREDENTIALS, or run where a service "
    "account is given; --anonymous_stores reads what is public"
)

# Seconds to connect, and between bytes.
_TIMEOUT = (5, 60)

_T = TypeVar("_T")


def _open_bucket(name: str) -> "GcsBucket":
    try:
        client = _client(current(), os.environ.get("STORAGE_EMULATOR_HOST"))
    except DefaultCredentialsError as error:
        raise ConfigError(f"gs://{name}: no credentials were found; {_CREDENTIALS}") from error
    return GcsBucket(client, name)


@functools.lru_cache(maxsize=8)
def _client(config: StoreConfig, emulator: str | None) -> storage.Client:
    endpoint = config.gcs_endpoint_url or emulator
    options = {"api_endpoint": endpoint} if endpoint else None
    credentials, project = AnonymousCredentials(), None
    if not config.anonymous_stores and not endpoint:
        credentials, project = _credentials()
    client = storage.Client(
        project=config.project or project or "none", credentials=credentials, client_options=options
    )
    adapter = requests.adapters.HTTPAdapter(pool_connections=WAITING_THREADS, pool_maxsize=WAITING_THREADS)
    for scheme in ("https://", "http://"):
        client._http.mount(scheme, adapter)
    return client


def _credentials() -> tuple[Any, str | None]:
    # Where there is no metadata server, its address swallows what is sent there.
    os.environ.setdefault("GCE_METADATA_TIMEOUT", "1")
    os.environ.setdefault("GCE_METADATA_DETECT_RETRIES", "1")
    found: tuple[Any, str | None] = default(scopes=["https://www.googleapis.com/auth/devstorage.read_write"])
    return found


def _once(request: Callable[[], _T]) -> _T:
    """Does a request without the library's own retries; what fails is `Refused`."""
    try:
        return request()
    except exceptions.GoogleAPICallError as error:
        raise _refusal(error.code or 0, error) from error
    except (requests.exceptions.ConnectionError, TransportError) as error:
        # Of a connection that was there, urllib3 tells what broke the protocol.
        was_there = isinstance(error, requests.exceptions.ConnectionError) and "ProtocolError" in repr(error)
        raise Refused("busy" if was_there else "silent", "no connection") from error
    except GoogleAuthError as error:
        raise Refused("unknown", str(error).partition("\n")[0]) from error
    except (requests.exceptions.RequestException, HTTPError, OSError) as error:
        # Within the body of a raw download, urllib3's own errors come through.
        raise Refused("busy", type(error).__name__) from error


def _refusal(code: int, error: Exception) -> Refused:
    text = " ".join(str(getattr(error, "message", error)).split())[-200:]
    detail = f"{code} {text.rpartition('?')[2] if len(text) == 200 else text}"
    match code:
        case 404 if "bucket does not exist" in text:
            return Refused("no_bucket", detail)
        case 404:
            return Refused("missing", detail)
        case 412 | 304:
            return Refused("changed", detail)
        case 401:
            return Refused("unknown", detail)
        case 403:
            return Refused("denied", detail)
        case 408 | 429:
            return Refused("busy", detail)
    return Refused("busy" if code >= 500 else "other", detail)


class GcsBucket(Bucket):
    """A bucket of Google's."""

    def __init__(self, client: storage.Client, name: str):
        self._client = client
        self._bucket = client.bucket(name)

    def list(self, prefix: str) -> Iterator[tuple[str, int, float, str]]:
        """Pages of a thousand objects."""
        folder = f"{prefix}/" if prefix else None
        fields = "items(name,size,updated,generation),nextPageToken"

        def page(token: str | None) -> tuple[Sequence[Any], str | None]:
            found = self._client.list_blobs(
                self._bucket, prefix=folder, fields=fields, page_token=token, timeout=_TIMEOUT, retry=None
            )
            return list(next(found.pages, ())), found.next_page_token

        token: str | None = None
        while True:
            blobs, token = _once(functools.partial(page, token))
            for blob in blobs:
                if not blob.name.endswith("/"):
                    modified = blob.updated.timestamp() if blob.updated else 0.0
                    yield blob.name, blob.size, modified, str(blob.generation or "")
            if token is None:
                return

    def _found(self, key: str) -> storage.Blob:
        blob = self._bucket.blob(key)
        _once(lambda: blob.reload(timeout=_TIMEOUT, retry=None))
        return blob

    def head(self, key: str) -> tuple[int, float, str]:
        """Asks for an object."""
        blob = self._found(key)
        return blob.size, blob.updated.timestamp() if blob.updated else 0.0, str(blob.generation)

    def get(self, key: str, start: int, end: int, version: str = "") -> tuple[bytes, int, str]:
        """Asks for a range. Which version and size the object has, the library keeps to itself; the answer tells it."""
        try:
            found = _once(lambda: self._download(key, start, end, version))
        except Refused as refused:
            is_other = version and refused.kind == "missing"
            raise (Refused("changed", refused.detail) if is_other else refused) from refused
        if found is None:  # nothing is there to be read
            size, _, version = self.head(key)
            return b"", size, version
        return found

    def _download(self, key: str, start: int, end: int, version: str) -> tuple[bytes, int, str] | None:
        blob = self._bucket.blob(key, generation=int(version) if version else None)
        # Of an object that is stored compressed, the bytes are wanted as they are stored.
        headers = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "gzip"}
        url = blob._get_download_url(self._client)
        with self._client._http.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            if response.status_code == 416:
                return None
            if response.status_code not in (200, 206):
                raise exceptions.from_http_response(response)
            data = response.raw.read(decode_content=False)
            _, _, size = response.headers.get("Content-Range", "").rpartition("/")
            found = version or response.headers.get("X-Goog-Generation", "")
        if response.status_code == 200:  # the whole object
            return data[start:end], len(data), found
        return data, int(size), found

    def put(self, key: str, content: bytes, content_type: str, replaces: str | None = None) -> None:
        """Writes an object, whose CRC32C the store checks."""
        condition = {} if replaces is None else {"if_generation_match": int(replaces or 0)}
        _once(
            lambda: self._bucket.blob(key).upload_from_string(
                content, content_type, checksum="crc32c", timeout=_TIMEOUT, retry=None, **condition
            )
        )

    def upload(self, key: str, content_type: str) -> Upload:
        """Begins a resumable upload."""
        return _Upload(self._bucket.blob(key, chunk_size=PIECE_BYTES), content_type)

    def copy(self, source: str, target: str) -> None:
        """Copies an object in the store; a large one takes several requests."""
        token, blob = None, self._bucket.blob(target)
        while True:
            token, _, _ = _once(
                functools.partial(blob.rewrite, self._bucket.blob(source), token=token, timeout=_TIMEOUT, retry=None)
            )
            if token is None:
                return

    def delete(self, keys: Sequence[str]) -> None:
        """Deletes objects side by side."""
        in_parallel(self._delete_one, list(keys))

    def _delete_one(self, key: str) -> None:
        try:
            _once(lambda: self._bucket.blob(key).delete(timeout=_TIMEOUT, retry=None))
        except Refused as refused:
            if refused.kind != "missing":
                raise


class _Upload:
    def __init__(self, blob: storage.Blob, content_type: str):
        self._file: io.BufferedIOBase = blob.open(
            "wb", chunk_size=PIECE_BYTES, content_type=content_type, checksum="crc32c", ignore_flush=True
        )

    def send(self, data: bytes) -> None:
        _once(lambda: self._file.write(data))

    def finish(self) -> None:
        _once(self._file.close)

    def abort(self) -> None:
        """Leaves the pieces, which the store forgets after a week."""
        terminate = getattr(self._file, "terminate", None)
        if terminate is not None:
            terminate()


_NEEDS = {
    "read": "storage.objects.get",
    "list": "storage.objects.list",
    "write": "storage.objects.create",
    "delete": "storage.objects.delete",
}

STORES = {"gs": ObjectStore(Requests("Google Cloud Storage", _NEEDS, _CREDENTIALS), _open_bucket)}
