"""Checks what the flags of features name: a file, a function, the folder of a graph. Imports nothing heavy."""

import json
import os
import re
from typing import Any, Literal

from penstock.io.errors import ConfigError
from penstock.io.files.paths import check_readable, is_local

# What becomes of rows that break the schema (`penstock.transforms.checks.severity`).
SchemaMode = Literal["enforce", "warn", "off"]

# What computes features (`penstock.transforms.features.engine`).
Engine = Literal["arrow", "tft"]
AnyEngine = Literal["auto", "arrow", "tft"]

FEATURES_HINT = "give a YAML file, or a function as module.py, module.py:function or module:function"
ROLLING_HINT = "give a YAML file"

# The file in a fitted graph's folder with the schema of its outputs.
GRAPH_SCHEMA = ("transformed_metadata", "schema.pbtxt")

# The file of features that are fitted without TensorFlow.
FITTED_FEATURES = "features.json"

# The file there with the schema of its inputs, if whoever fitted it wrote one.
RAW_SCHEMA = ("metadata", "schema.pbtxt")

# The function that a file of Python is taken to have, as TFX takes it.
FUNCTION = "preprocessing_fn"

_FUNCTION = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_]\w*)")
_FILE = re.compile(r"(.+\.py)(?::([A-Za-z_]\w*))?", re.DOTALL)


def function_of(features: str) -> tuple[str, str] | None:
    """The module, or the file of Python, and the function that features name; None for a YAML file.

    >>> function_of("models/taxi.py"), function_of("gs://b/taxi.py:fn"), function_of("my.module:fn")
    (('models/taxi.py', 'preprocessing_fn'), ('gs://b/taxi.py', 'fn'), ('my.module', 'fn'))
    """
    if found := _FILE.fullmatch(features):
        return found[1], found[2] or FUNCTION
    found = _FUNCTION.fullmatch(features)
    return (found[1], found[2]) if found and not features.endswith((".yaml", ".yml")) else None


def features_file(features: str) -> str | None:
    """The file that features name, YAML or Python; None for a module.

    >>> features_file("f.yaml"), features_file("taxi.py:fn"), features_file("my.module:fn")
    ('f.yaml', 'taxi.py', None)
    """
    function = function_of(features)
    if function is None:
        return features
    return function[0] if function[0].endswith(".py") else None


def check_features_file(features: str, what: str) -> None:
    """Rejects a local file of features that cannot be opened; accepts functions of modules.

    Raises:
      ConfigError: saying why.
    """
    path = features_file(features)
    if path is not None:
        check_readable(path, what, FEATURES_HINT)


def config_file(custom_config: str) -> str | None:
    """The file that `--custom_config` names; None if it is JSON itself.

    >>> config_file("config.json"), config_file('{"buckets": 10}')
    ('config.json', None)
    """
    return None if custom_config.lstrip().startswith("{") else custom_config


def check_custom_config(custom_config: str | None, features: str | None) -> None:
    """Refuses a `--custom_config` that no function gets.

    Raises:
      ConfigError: says why.
    """
    if custom_config is not None and (features is None or function_of(features) is None):
        given = "there are none" if features is None else f"{features} is a YAML file"
        raise ConfigError(f"--custom_config is for a function that --features names, and {given}")


def parse_custom_config(text: str, source: str) -> dict[str, Any]:
    """The object that a JSON text holds.

    Raises:
      ConfigError: when it is none; with the line.
    """
    try:
        config = json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_no_number)
    except ValueError as error:
        raise ConfigError(f"{source}: must be an object in JSON, or a file that holds one: {error}") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{source}: must be an object in JSON, such as {{}}, got {text.strip()[:100]}")
    return config


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    config = dict(pairs)
    if len(config) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{repeated!r} stands twice")
    return config


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")


def no_graph(transform_dir: str, error: Exception) -> ConfigError:
    """Returns the error for a folder that holds no fitted graph."""
    return ConfigError(f"--transform {transform_dir}: is not a folder with a fitted graph: {error}")


def check_graph_folder(transform_dir: str) -> None:
    """Rejects a local folder that holds no fitted graph.

    Raises:
      ConfigError: saying what is missing.
    """
    if is_local(transform_dir):
        try:
            open(os.path.join(transform_dir, *GRAPH_SCHEMA), "rb").close()
        except OSError as error:
            raise no_graph(transform_dir, error) from error
