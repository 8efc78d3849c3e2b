"""What a request asks of an object store, told from its method, target and headers, for the protocols of three stores.

| kind | S3 | Azure | Google |
|---|---|---|---|
| `list` | GET of a bucket | `comp=list` | GET of `/b/BUCKET/o` |
| `get` | GET of an object | GET of a blob | `alt=media` |
| `head` | HEAD | HEAD | GET of an object's metadata |
| `put` | PUT | PUT | upload in one request |
| `start`, `part` | multipart upload | blocks | resumable upload |
| `complete`, `abort` | multipart upload | list of blocks | DELETE of an upload |
| `copy` | PUT with a source | PUT with a source | rewrite, copy, compose |
| `delete` | DELETE, and of many at once | DELETE | DELETE |
| `batch` | | of any requests | of any requests |
| `bucket` | about a bucket itself | about a container itself | about a bucket itself |
"""

import urllib.parse
from collections.abc import Mapping

KINDS = (
    *("list", "get", "head", "put", "start", "part", "complete", "abort", "copy", "delete", "batch", "bucket", "other"),
)

_GOOGLE = ("/storage/v1/", "/upload/storage/v1/", "/download/storage/v1/", "/batch/storage/v1", "/resumable/upload/")
_GOOGLE_COPIES = ("/rewriteTo/", "/copyTo/")
_BY_METHOD = {"GET": "get", "HEAD": "head", "PUT": "put", "DELETE": "delete"}


def kind_of(method: str, target: str, headers: Mapping[str, str] = {}) -> str:
    """One of `KINDS`; names of headers are in lower case.

    >>> kind_of("GET", "/bucket?list-type=2&prefix=a%2F")
    'list'
    """
    path, _, text = target.partition("?")
    query = dict(urllib.parse.parse_qsl(text, keep_blank_values=True))
    if path.startswith(_GOOGLE):
        return _google(method, path, query)
    if "x-ms-version" in headers:
        return _azure(method, path, query, headers)
    return _s3(method, path, query, headers)


def _s3(method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> str:
    if "/" not in path.strip("/"):
        many = method == "POST" and "delete" in query
        about = bool(query.keys() & {"location", "versioning", "policy", "acl"})
        return "delete" if many else "list" if method == "GET" and path != "/" and not about else "bucket"
    if method == "POST":
        return "start" if "uploads" in query else "complete" if "uploadId" in query else "other"
    if "uploadId" in query:
        return {"PUT": "part", "DELETE": "abort"}.get(method, "other")
    return "copy" if "x-amz-copy-source" in headers else _BY_METHOD.get(method, "other")


def _azure(method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> str:
    component = query.get("comp")
    if component in ("list", "batch"):
        return component
    if query.get("restype") == "container":
        return "bucket"
    if component in ("block", "blocklist"):
        return "head" if method == "GET" else "part" if component == "block" else "complete"
    if component is not None:
        return "other"
    return "copy" if "x-ms-copy-source" in headers else _BY_METHOD.get(method, "other")


def _google(method: str, path: str, query: Mapping[str, str]) -> str:
    if path.startswith("/batch/"):
        return "batch"
    if path.startswith(("/upload/", "/resumable/")):
        return _google_upload(method, query)
    _, _, object_path = path.partition("/o/")
    if any(words in path for words in _GOOGLE_COPIES) or path.endswith("/compose"):
        return "copy"
    if object_path:
        metadata = method == "GET" and query.get("alt") != "media"
        return "head" if metadata else _BY_METHOD.get(method, "other")
    return "list" if path.endswith("/o") and method == "GET" else "bucket"


def _google_upload(method: str, query: Mapping[str, str]) -> str:
    if "upload_id" in query:
        return "abort" if method == "DELETE" else "part"
    return "start" if query.get("uploadType") == "resumable" else "put"
