"""Checks what the flags of features name: a file, a function, the folder of a graph. Imports nothing heavy."""

import os
import re
from typing import Literal

from penstock.io.errors import ConfigError
from penstock.io.files.paths import check_readable, is_local

# What becomes of rows that break the schema (`penstock.transforms.checks.severity`).
SchemaMode = Literal["enforce", "warn", "off"]

FEATURES_HINT = "give a YAML file, or a function as module:function"
ROLLING_HINT = "give a YAML file"

# The file in a fitted graph's folder with the schema of its outputs.
GRAPH_SCHEMA = ("transformed_metadata", "schema.pbtxt")

# The file there with the schema of its inputs, if whoever fitted it wrote one.
RAW_SCHEMA = ("metadata", "schema.pbtxt")

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def is_function(features: str) -> bool:
    """Whether features are named as `module:function`, and not as the path of a YAML file.

    >>> is_function("my.module:preprocessing_fn"), is_function("c:features.yaml")
    (True, False)
    """
    return _FUNCTION.fullmatch(features) is not None and not features.endswith((".yaml", ".yml"))


def check_features_file(features: str, what: str) -> None:
    """Rejects a local file of features that cannot be opened; accepts functions.

    Raises:
      ConfigError: saying why.
    """
    if not is_function(features):
        check_readable(features, what, FEATURES_HINT)


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
