"""A bucket by `obstore`, the object_store of Rust."""

import datetime
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import obstore
from obstore import exceptions

from penstock.io.files.stores.objects import Bucket
from penstock.io.files.stores.reading import Data, in_parallel
from penstock.io.files.stores.retries import Refused
from penstock.io.files.stores.writing import PIECE_BYTES, Upload

# Of single requests, which are tried again here too; and of those in the middle of an upload, which are not.
SHORT_RETRIES: Any = {"max_retries": 2, "retry_timeout": datetime.timedelta(seconds=20)}
LONG_RETRIES: Any = {"max_retries": 10, "retry_timeout": datetime.timedelta(seconds=180)}
TIMEOUTS = {"connect_timeout": "5s", "timeout": "120s"}

# The error code of a store, in XML, or of one object of many; the status; and what the HTTP client says.
_CODE = re.compile(r"<Code>(\w+)</Code>|\(code: (\w+)\)")
_STATUS = re.compile(r"non-2xx status code: (\d{3}) ?([\w ]*)")
_HTTP = re.compile(r"HTTP error: ([^\n]*)")
_NO_CONNECTION = re.compile(r"ConnectError|dns error|tcp connect error|Connect,|connection refused", re.IGNORECASE)


def refusal(error: Exception) -> Refused:
    """What an exception of obstore means."""
    text = str(error)
    code, status, http = _CODE.search(text), _STATUS.search(text), _HTTP.search(text)
    number = int(status[1]) if status else 0
    detail = (
        code[code.lastindex or 0]
        if code
        else f"{status[1]} {status[2]}".strip()
        if status
        else http[1].strip()
        if http
        else ""
    )
    detail = detail or text.partition("\n")[0]
    if detail in ("NoSuchBucket", "ContainerNotFound"):
        return Refused("no_bucket", detail)
    if isinstance(error, FileNotFoundError) or number == 404:
        return Refused("missing", detail)
    if isinstance(error, exceptions.AlreadyExistsError | exceptions.PreconditionError) or number in (409, 412):
        return Refused("changed", detail)
    if detail in _BAD_CREDENTIALS or isinstance(error, exceptions.UnauthenticatedError) or number == 401:
        return Refused("unknown", detail)
    if isinstance(error, exceptions.PermissionDeniedError) or number == 403 or detail == "AccessDenied":
        return Refused("denied", detail)
    if detail in _BUSY:
        return Refused("busy", detail)
    if number in (301, 307):
        return Refused("other", "the bucket is in another region: name it (--s3_region_name, or AWS_REGION)")
    if number in (408, 429) or number >= 500:
        return Refused("busy", detail)
    if number == 0 and http and _NO_CONNECTION.search(text):
        return Refused("silent", "no connection")
    if number == 0 and http:
        return Refused("busy", detail)
    return Refused("other", detail)


# Of single objects among many that are deleted at once, where the request as a whole is answered with 200.
_BUSY = ("InternalError", "ServiceUnavailable", "SlowDown")
_BAD_CREDENTIALS = (
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "AuthenticationFailed",
    "NoAuthenticationInformation",
)  # fmt: skip


# The processes that asked a store, of which this one is a fork, and this one.
_asked: set[int] = set()


def _check_process() -> None:
    """Refuses a request that would never be answered: the threads of obstore are not in a fork of their process."""
    _asked.add(os.getpid())
    if len(_asked) > 1:
        raise Refused(
            "other",
            "this process is a fork of one that has asked a store, and does not have its threads: start it anew, as "
            "multiprocessing does with spawn",
        )


class ObstoreBucket(Bucket):
    """A bucket of S3, or a container of Azure.

    Args:
      client: a store of obstore's, for single requests.
      uploads: the same for uploads in pieces.
    """

    def __init__(self, client: Any, uploads: Any):
        self._stores = client, uploads

    @property
    def _client(self) -> Any:
        _check_process()
        return self._stores[0]

    @property
    def _uploads(self) -> Any:
        _check_process()
        return self._stores[1]

    def list(self, prefix: str) -> Iterator[tuple[str, int, float, str]]:
        """Pages of a thousand objects."""
        try:
            for page in obstore.list(self._client, prefix or None, chunk_size=1000):
                for meta in page:
                    if meta["size"] or not self._is_marker(meta["path"], prefix):
                        yield meta["path"], meta["size"], meta["last_modified"].timestamp(), _version(meta)
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise refusal(error) from error

    def _is_marker(self, key: str, prefix: str) -> bool:
        """Whether an empty object is one that consoles make for a folder: its key ends with a `/`, which lists omit."""
        if key == prefix:
            return True
        try:
            obstore.head(self._client, key)
        except FileNotFoundError:
            return True
        return False

    def head(self, key: str) -> tuple[int, float, str]:
        """Asks for an object."""
        try:
            meta = obstore.head(self._client, key)
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise refusal(error) from error
        return meta["size"], meta["last_modified"].timestamp(), _version(meta)

    def get(self, key: str, start: int, end: int, version: str = "") -> tuple[Data, int, str]:
        """Asks for a range; of an empty object, there is none."""
        options: Any = {"range": (start, end), **({"if_match": version} if version else {})}
        try:
            result = obstore.get(self._client, key, options=options)
            meta = result.meta
            return memoryview(result.bytes()), meta["size"], _version(meta)
        except (exceptions.BaseError, OSError, ValueError) as error:
            if start == 0 and (" 416 " in str(error)):
                size, _, found = self.head(key)
                if size == 0:
                    return b"", 0, found
            raise refusal(error) from error

    def put(self, key: str, content: bytes, content_type: str, replaces: str | None = None) -> None:
        """Writes an object."""
        mode: Any = "overwrite" if replaces is None else {"e_tag": replaces} if replaces else "create"
        attributes = {"Content-Type": content_type}
        try:
            obstore.put(self._client, key, content, attributes=attributes, mode=mode, use_multipart=False)
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise refusal(error) from error

    def upload(self, key: str, content_type: str) -> Upload:
        """Begins an upload in pieces."""
        attributes = {"Content-Type": content_type}
        writer = obstore.open_writer(
            self._uploads, key, attributes=attributes, buffer_size=PIECE_BYTES, max_concurrency=4
        )
        return _Upload(writer)

    def copy(self, source: str, target: str) -> None:
        """Copies an object in the store."""
        try:
            obstore.copy(self._client, source, target)
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise refusal(error) from error

    def delete(self, keys: Sequence[str]) -> None:
        """Deletes a thousand objects with one request where the store can, else side by side."""
        try:
            obstore.delete(self._client, list(keys))
        except FileNotFoundError as error:
            if refusal(error).kind == "no_bucket":
                raise refusal(error) from error
            in_parallel(self._delete_one, list(keys))  # of a store that takes one that is gone for an error
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise refusal(error) from error

    def _delete_one(self, key: str) -> None:
        try:
            obstore.delete(self._client, key)
        except FileNotFoundError:
            pass
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise refusal(error) from error


def _version(meta: Any) -> str:
    """The entity tag of an object, as a condition must have it; Azure lists it without its quotes.

    >>> _version({"e_tag": "0x8D"}), _version({"e_tag": '"0x8D"'}), _version({"e_tag": None})
    ('"0x8D"', '"0x8D"', '')
    """
    tag: str = meta["e_tag"] or ""
    return tag if not tag or tag.endswith('"') else f'"{tag}"'


class _Upload:
    def __init__(self, writer: Any):
        self._writer = writer

    def send(self, data: bytes) -> None:
        try:
            self._writer.write(data)
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise refusal(error) from error

    def finish(self) -> None:
        try:
            self._writer.close()
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise refusal(error) from error

    def abort(self) -> None:
        """Leaves the pieces: no object is made of them, and a rule of the bucket's removes them (docs/stores.md)."""
