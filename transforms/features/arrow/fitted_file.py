"""`features.json`: features and what is fitted of them, as a person reads it and `--transform` loads it.

The file is one object. `version` is that of the format. `columns` are what the features are computed from, as the
schema has them. `features` are the entries of the features file with all their arguments; an operation that is fitted
has `fitted` beside these: means and variances, boundaries of buckets, or the name of a vocabulary's file in
`vocabularies/`, one term a line (or a record, where it ends in `.tfrecord.gz`), that of position 0 first. Texts that
are not UTF-8 have a lone surrogate for each byte that is wrong; a float that is not finite is {"float": "nan"}, "inf"
or "-inf"; a mapping is {"pairs": [[key, value]]}; the map of `lookup` has `keys` and `values`, with where it is from.
"""

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from penstock.io.errors import ConfigError, InputError
from penstock.io.files import stores
from penstock.io.files.system_errors import OUTPUT_REMEDY, writing
from penstock.io.files.yaml_files import Location, refuse
from penstock.io.schema import Feature, Kind, feature_map
from penstock.transforms._named import FITTED_FEATURES
from penstock.transforms.features.arrow.calls import CALLS
from penstock.transforms.features.arrow.compute.analysis import Fitted, read_bytes, written_keys
from penstock.transforms.features.arrow.fitted_check import check_fitted, check_terms
from penstock.transforms.features.arrow.program import Place, Program
from penstock.transforms.features.arrow.vocabularies.files import GZIPPED_RECORDS, read_terms, write_terms
from penstock.transforms.features.arrow.vocabularies.lookup import Vocabulary
from penstock.transforms.features.entries.binding import Input, Output, bind_entry
from penstock.transforms.features.entries.file import (
    Entry,
    Step,
    check_argument,
    check_name,
    check_required,
    complete,
    is_int,
)
from penstock.transforms.features.entries.vocabulary import vocabularies
from penstock.transforms.features.operations import OPERATIONS
from penstock.transforms.features.operations.fixed_map import FixedMap

_VERSION = 1
_FOLDER = "vocabularies"
# Of arguments that are compared with values, or become one: texts of these are bytes.
_BYTES = ("same", "value", "values", "map")
# Arguments that are held in another form than a features file has them.
_COMPLETED = ("time", "map", "file")
# The map of `lookup`, as it is held.
_TABLE = "table"
# Microseconds since 1970 of the years 1 to 9999.
_TIMES = (-62_135_596_800_000_000, 253_402_300_799_999_999)
# The parts of the map of `lookup`.
_MAP = ("keys", "values", "lines")


def write_fitted(program: Program, directory: str) -> None:
    """Writes `features.json` and the vocabularies."""
    names = vocabulary_names([output.entry for output in program.outputs])
    features, written = [], {}
    for output in program.outputs:
        entry = output.entry
        ops = [_written_step(step, program.fitted.get((entry.name, at))) for at, step in enumerate(entry.steps)]
        for at, op in enumerate(ops):
            if "terms" in op.get("fitted", {}):
                name, written[names[entry.name]] = names[entry.name], program.fitted[entry.name, at]["terms"]
                op["fitted"]["terms"] = len(written[name])
                op["fitted"]["vocabulary"] = f"{_FOLDER}/{name}"
        defaults = [_written(default) for default in entry.defaults]
        features.append({"name": entry.name, "inputs": list(entry.inputs), "defaults": defaults, "ops": ops})
    for name, terms in written.items():
        write_terms(terms, stores.join(directory, _FOLDER, name))
    used = {name for output in program.outputs for name in output.entry.inputs}
    columns = [_written_column(item.feature) for item in program.inputs if item.name in used]
    content = {"version": _VERSION, "columns": columns, "features": features}
    path = stores.join(directory, FITTED_FEATURES)
    with writing(path, OUTPUT_REMEDY), stores.create_file(path, "application/json") as file:
        file.write((json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def vocabulary_names(entries: Sequence[Entry]) -> dict[str, str]:
    """The name of the file of each vocabulary, by entry: that of the entry, if it is valid for a file."""
    found = vocabularies(entries)
    return {
        entry.name: (found[entry.name].name or f"vocabulary_{at}")
        + (GZIPPED_RECORDS if found[entry.name].arguments.get("file_format") == "tfrecord_gzip" else "")
        for at, entry in enumerate(entries)
        if entry.name in found
    }


def read_fitted(directory: str, left_out: Sequence[str] = ()) -> Program:
    """Reads what `write_fitted` wrote, without the features that are left out.

    Raises:
      ConfigError: when it is not there, or not of this version, or what it says does not fit together.
    """
    path = stores.join(directory, FITTED_FEATURES)
    try:
        with stores.open_file(path) as file:
            content = json.loads(file.read())
        version = content["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: is not a file of fitted features: {error!r}; fit again") from error
    if version != _VERSION:
        raise ConfigError(f"{path}: has the version {version}, this Penstock reads {_VERSION}; fit again")
    try:
        return _program(content, path, directory, left_out)
    except ConfigError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path}: does not hold what it should: {error!r}; fit again") from error


def _program(content: Mapping[str, Any], path: str, directory: str, left_out: Sequence[str]) -> Program:
    columns = feature_map([_column(item) for item in content["columns"]])
    outputs: list[Output] = []
    fitted: dict[Place, Fitted] = {}
    read: dict[tuple[str, Kind], Vocabulary] = {}
    names = [item["name"] for item in content["features"]]
    if not names or len(set(names)) != len(names) or not all(isinstance(name, str) for name in names):
        raise ValueError("features must be one at least, of different names")
    for item in content["features"]:
        if item["name"] in left_out:
            continue
        where = Location(path, line=0, path=f"feature {item['name']!r}")
        check_name(item["name"], where)
        steps = tuple(_step(op, where) for op in item["ops"])
        defaults = tuple(_read(default, is_bytes=True) for default in item["defaults"])
        outputs.append(bind_entry(Entry(item["name"], tuple(item["inputs"]), defaults, steps, where), columns))
        for at, (op, step) in enumerate(zip(item["ops"], steps, strict=True)):
            if step.operation.fitted and CALLS[step.name].analysis is not None:
                kinds = [state.kind for state in outputs[-1].entering(at)]
                found = {name: _read(value) for name, value in op.get("fitted", {}).items()}
                check_fitted(step, kinds, found)
                fitted[item["name"], at] = _with_terms(found, kinds[0], directory, read)
    # Weights and labels are for the fit only.
    used = {name for output in outputs for name in output.entry.inputs}
    inputs = tuple(Input(columns[name]) for name in sorted(used))
    return Program(inputs, tuple(outputs)).with_fitted(fitted)


def _with_terms(fitted: Fitted, kind: Kind, directory: str, read: dict[tuple[str, Kind], Vocabulary]) -> Fitted:
    """Reads the vocabulary of what is fitted, if it has one; `read` are those that entries share, by name and kind."""
    if "vocabulary" not in fitted:
        return fitted
    name = fitted["vocabulary"]
    if (name, kind) not in read:
        path = stores.join(directory, name)
        try:
            vocabulary = Vocabulary(read_terms(path))
            check_terms(vocabulary, kind, path)
            read[name, kind] = vocabulary
        except (OSError, EOFError, zlib.error, ValueError, InputError) as error:
            raise ConfigError(
                f"{path}: is not the vocabulary that was fitted: {error}; copy the whole folder as bytes, or fit again"
            ) from error
    vocabulary = read[name, kind]
    if len(vocabulary) != fitted["terms"]:
        raise ValueError(f"{name} has {len(vocabulary)} terms and not {fitted['terms']}")
    return {**fitted, "vocabulary": vocabulary, "terms": vocabulary.terms}


def _written_column(feature: Feature) -> dict[str, Any]:
    return {
        "name": feature.name,
        "kind": feature.kind.value,
        "multivalued": feature.multivalued,
        "complete": feature.complete,
        "length": feature.length,
    }


def _column(item: Mapping[str, Any]) -> Feature:
    return Feature(
        item["name"],
        Kind(item["kind"]),
        multivalued=item["multivalued"],
        complete=item["complete"],
        length=item["length"],
    )


def _written_step(step: Step, fitted: Fitted | None) -> dict[str, Any]:
    written: dict[str, Any] = {"name": step.name, "arguments": _written_names(step.arguments)}
    if fitted is not None:
        shown = {name: value for name, value in fitted.items() if name != "vocabulary"}
        written["fitted"] = {
            name: None if isinstance(value, pa.Array) else _written(value) for name, value in shown.items()
        }
    return written


def _written_names(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _written(value) for name, value in values.items()}


def _step(op: Mapping[str, Any], where: Location) -> Step:
    operation, where = OPERATIONS[op["name"]], where.inside(op["name"])
    parameters = operation.parameters
    completed = any(rule.type in _COMPLETED for rule in parameters.values())
    for name, value in op["arguments"].items():
        if name not in parameters:
            if completed and name == _TABLE:
                continue
            if not parameters:
                raise ConfigError(f"{where}: takes no argument, got {name!r}")
            refuse(where, f"unknown argument {name!r}", name, parameters)
        if parameters[name].type == "time" and not (is_int(value) and _TIMES[0] <= value <= _TIMES[1]):
            raise ConfigError(f"{where}: {name} must be microseconds since 1970, got {value!r:.60}")
        if parameters[name].type not in _COMPLETED:
            check_argument(_read(value), name, parameters[name], where)
    check_required(operation, op["arguments"], where)
    arguments = {
        name: _read(value, is_bytes=name in parameters and parameters[name].type in _BYTES)
        for name, value in op["arguments"].items()
    }
    return Step(op["name"], arguments if completed else complete(operation, arguments, where), where)


def _written(value: Any) -> Any:
    if isinstance(value, bytes):
        return written_keys([value])[0]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if isinstance(value, FixedMap):
        return {"map_of": value.source, **_written_names({name: getattr(value, name) for name in _MAP})}
    if isinstance(value, list | tuple):
        return [_written(item) for item in value]
    if isinstance(value, Mapping):
        return {"pairs": [[_written(key), _written(item)] for key, item in value.items()]}
    return value


def _read(value: Any, is_bytes: bool = False) -> Any:
    if isinstance(value, str) and is_bytes:
        return read_bytes([value])[0]
    if isinstance(value, list):
        return [_read(item, is_bytes) for item in value]
    if isinstance(value, dict):
        if "map_of" in value:
            keys, values, lines = (tuple(_read(value[name], is_bytes=True)) for name in _MAP)
            return FixedMap(value["map_of"], keys, values, lines)
        if "float" in value:
            return float(value["float"])
        return {_read(key, is_bytes): _read(item, is_bytes) for key, item in value["pairs"]}
    return value
