"""The metadata of a dataset in Croissant, a vocabulary in JSON-LD for data to learn from.

The spec is version 1.0, https://docs.mlcommons.org/croissant/docs/croissant-spec.html: each shard is a FileObject, the
shards of a split are a FileSet, its records a RecordSet with a field for each column. Paths are relative to the folder
of the dataset, where the file belongs.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import pyarrow as pa
from pyarrow import types

_VOCABULARY = "http://mlcommons.org/croissant/"
_CONFORMS_TO = f"{_VOCABULARY}1.0"

# The terms of the spec, all of which its context has to have.
_TERMS = (
    "citeAs column equivalentProperty extract field fileObject fileProperty fileSet format includes isLiveDataset "
    "jsonPath key md5 parentField path recordSet references regex repeated replace samplingRate separator source "
    "subField transform"
)
_CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": _VOCABULARY,
    "dct": "http://purl.org/dc/terms/",
    "rai": f"{_VOCABULARY}RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in _TERMS.split()},
}

# Types of Arrow, and what they are there; all else is text.
_TYPES = (
    (types.is_boolean, "sc:Boolean"),
    (types.is_int8, "cr:Int8"),
    (types.is_int16, "cr:Int16"),
    (types.is_int32, "cr:Int32"),
    (types.is_int64, "cr:Int64"),
    (types.is_uint8, "cr:UInt8"),
    (types.is_uint16, "cr:UInt16"),
    (types.is_uint32, "cr:UInt32"),
    (types.is_uint64, "cr:UInt64"),
    (types.is_float16, "cr:Float16"),
    (types.is_float32, "cr:Float32"),
    (types.is_float64, "cr:Float64"),
    (types.is_date, "sc:Date"),
    (types.is_time, "sc:Time"),
    (types.is_timestamp, "sc:DateTime"),
)

# Of splits with these names, what they are for.
_PURPOSES = {
    "train": "TrainingSplit",
    "eval": "ValidationSplit",
    "validation": "ValidationSplit",
    "test": "TestSplit",
}

# Of shards, where the vocabulary knows their format under another name.
_PARQUET = "application/x-parquet"
_TAR = "application/x-tar"


@dataclasses.dataclass(frozen=True)
class StoredFile:
    """A shard: its path relative to the dataset, its split, its bytes, and SHA-256 of these, in hex."""

    path: str
    split: str
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Described:
    """What is said of a dataset as a whole.

    Attributes:
      name: its name.
      description: a sentence or more.
      version: as semantic versions are; None where it has none.
      published: when, ISO 8601.
      license: its name or address; None where nobody said it.
      url: of a page about it; None where nobody said it.
      creator: who made it; None where nobody said it.
      cite_as: how to cite it; None where nobody said it.
      is_live: whether it grows, as one with windows does.
    """

    name: str
    description: str
    version: str | None
    published: str
    license: str | None = None
    url: str | None = None
    creator: str | None = None
    cite_as: str | None = None
    is_live: bool = False


def croissant(
    described: Described, columns: pa.Schema, splits: Mapping[str, int], files: Sequence[StoredFile], media_type: str
) -> dict[str, Any]:
    """Returns the metadata as JSON-LD.

    Args:
      described: what is said of the dataset.
      columns: of the records.
      splits: rows by split.
      files: the shards.
      media_type: of the shards.
    """
    encoding = {"application/vnd.apache.parquet": _PARQUET}.get(media_type, media_type)
    about = {
        "license": described.license,
        "url": described.url,
        "creator": None if described.creator is None else {"@type": "sc:Organization", "name": described.creator},
        "citeAs": described.cite_as,
        "version": described.version,
        "datePublished": described.published,
        "isLiveDataset": described.is_live or None,
    }
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": _CONFORMS_TO,
        "name": described.name,
        "description": described.description,
        **{name: value for name, value in about.items() if value is not None},
        "distribution": [
            *(_file(file, encoding) for file in files),
            *(_file_set(split, [file.path for file in files if file.split == split], encoding) for split in splits),
        ],
        "recordSet": [_purposes(splits), *(_records(split, rows, columns) for split, rows in splits.items())],
    }


def _file(file: StoredFile, encoding: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": quote(file.path),
        "name": file.path,
        "contentUrl": file.path,
        "contentSize": f"{file.bytes} B",
        "encodingFormat": encoding,
        "sha256": file.sha256,
    }


def _file_set(split: str, paths: Sequence[str], encoding: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": _set_of(split),
        "name": _set_of(split),
        "description": f"The shards of the split {split}.",
        "encodingFormat": encoding,
        "includes": list(paths),
    }


def _set_of(split: str) -> str:
    return f"shards-of-{split}"


def _purposes(splits: Mapping[str, int]) -> dict[str, Any]:
    """The names of the splits, and what they are for, where the vocabulary has that."""
    name = "names-of-splits"
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "dataType": "cr:Split",
        "key": {"@id": f"{name}/name"},
        "field": [
            {"@type": "cr:Field", "@id": f"{name}/name", "name": "name", "dataType": "sc:Text"},
            {"@type": "cr:Field", "@id": f"{name}/url", "name": "url", "dataType": "sc:URL"},
        ],
        "data": [
            {f"{name}/name": split, f"{name}/url": f"{_VOCABULARY}{_PURPOSES.get(split, 'Split')}"} for split in splits
        ],
    }


def _records(split: str, rows: int, columns: pa.Schema) -> dict[str, Any]:
    name = f"records-of-{split}"
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"The {rows:,} records of the split {split}.",
        "field": list(_fields(name, split, columns)),
    }


def _fields(name: str, split: str, columns: pa.Schema) -> Iterator[dict[str, Any]]:
    for column in columns:
        item, depth = column.type, 0
        while types.is_list(item) or types.is_large_list(item):
            item, depth = item.value_type, depth + 1
        yield {
            "@type": "cr:Field",
            "@id": f"{name}/{quote(column.name, safe='')}",
            "name": column.name,
            "description": f"{column.type}, a column of Arrow",
            "dataType": next((found for is_type, found in _TYPES if is_type(item)), "sc:Text"),
            **({"repeated": True} if depth else {}),
            "source": {"fileSet": {"@id": _set_of(split)}, "extract": {"column": column.name}},
        }
