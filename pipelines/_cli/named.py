"""What the values of flags name: files, folders, topics; and checks that they can be reached and are there.

The checks run before Beam is loaded, so that a job reports a fault at once. Their messages are those of the step that
would detect it later.
"""

import dataclasses
import os
from collections.abc import Callable
from typing import Literal

from penstock.io.dataset.options import OUT_STATISTICS, STATISTICS, VERSIONS
from penstock.io.errors import ConfigError
from penstock.io.files import stores
from penstock.io.files.extras import KAFKA, TFT, check_filesystem
from penstock.io.files.paths import check_matches, check_readable, is_local, walk_files
from penstock.io.sources.registry import kind_of
from penstock.transforms._named import (
    FITTED_FEATURES,
    GRAPH_SCHEMA,
    ROLLING_HINT,
    check_features_file,
    check_graph_folder,
    config_file,
    features_file,
    function_of,
    parse_custom_config,
)

# The key of a flag's metadata, and the attribute of its argparse action.
NAMED = "named"

# Of a value, and of the flag with it as messages have it.
_Check = Callable[[str, str], None]


def _pass(value: str, what: str) -> None:
    """Checks nothing."""


@dataclasses.dataclass(frozen=True)
class Named:
    """A kind of thing that flags name.

    Attributes:
      completion: what a shell completes it to: "file", "directory" or nothing.
      reach: refuses what cannot be reached from here: an extra is missing, or nobody knows the scheme.
      find: refuses what must be there and is not.
      holds: what a job reads from it: rows, or a file that says what becomes of them; nothing for what it writes.
      file: the file that a value names, if it need not be one itself; None if it names none.
      is_bare: whether it is given without a flag.
    """

    completion: str = ""
    reach: _Check = check_filesystem
    find: _Check = _pass
    holds: Literal["", "rows", "file"] = ""
    file: Callable[[str], str | None] = str
    is_bare: bool = False

    def shown(self, flag: str, value: str) -> str:
        """A value as the command line has it, for messages."""
        return value if self.is_bare else f"--{flag} {value}"


def _reach_input(value: str, what: str) -> None:
    kind_of(value).reach(value, what)


def _find_input(value: str, what: str) -> None:
    kind_of(value).find(value)


def _find_pattern(value: str, what: str) -> None:
    check_matches(value)


def _reach_topic(value: str, what: str) -> None:
    KAFKA.require("Kafka")


def _reach_here(value: str, what: str) -> None:
    if not is_local(value):
        raise ConfigError(f"{what}: must be a file of this machine")


def _reach_disk(value: str, what: str) -> None:
    if not is_local(value):
        raise ConfigError(f"{what}: must be a folder of this machine")


def _find_spill(value: str, what: str) -> None:
    if os.path.exists(value) and not os.path.isdir(value):
        raise ConfigError(f"{what}: is a file; name a folder")


def _reach_features(value: str, what: str) -> None:
    if function_of(value) is not None:
        TFT.require("feature transformation")
    if (path := features_file(value)) is not None:
        check_filesystem(path, what)


def _reach_config(value: str, what: str) -> None:
    if (path := config_file(value)) is not None:
        check_filesystem(path, what)


def _find_config(value: str, what: str) -> None:
    if (path := config_file(value)) is not None:
        check_readable(path, what, "give a JSON file, or an object in JSON")
    else:
        parse_custom_config(value, "--custom_config")


def _reach_graph(value: str, what: str) -> None:
    # What lies elsewhere is looked at when the job has begun.
    if is_local(value) and _is_graph_of_tensorflow(value):
        TFT.require("feature transformation")
    check_filesystem(value, what)


def _find_rolling(value: str, what: str) -> None:
    check_readable(value, what, ROLLING_HINT)


def _is_graph_of_tensorflow(folder: str) -> bool:
    has_schema = os.path.exists(os.path.join(folder, *GRAPH_SCHEMA))
    return has_schema and not os.path.exists(os.path.join(folder, FITTED_FEATURES))


def _find_graph(value: str, what: str) -> None:
    check_graph_folder(value)


def _find_dataset(value: str, what: str) -> None:
    if not is_local(value):
        return
    if os.path.isfile(value):
        raise ConfigError(f"{what}: is a file; name the folder of a dataset")
    try:
        found = next(iter(walk_files(value)), None)
    except OSError as error:
        raise unlisted(what, error) from error
    if found is None:
        raise no_dataset(what)


def _find_statistics(value: str, what: str) -> None:
    for path in statistics_files(value):
        check_readable(path, what, "give a file of statistics, or the folder of a dataset that has them")


def statistics_files(value: str) -> list[str]:
    """The files of statistics that a value names: itself, or those that a dataset has of its rows, one for each span.

    >>> statistics_files("may.pb")
    ['may.pb']

    Raises:
      ConfigError: for a dataset some spans of which have statistics, and others none.
    """
    if value.endswith(".pb"):
        return [value]
    folders = [STATISTICS]
    if stores.is_object(value) or os.path.exists(os.path.join(value, VERSIONS)):  # the manifest says where they are
        from penstock.io.dataset.manifest import read_manifest

        manifest = read_manifest(value)
        if manifest is not None:
            having = {span.name: span.statistics for span in manifest.spans if span.statistics is not None}
            folders = list(having.values()) or [manifest.extra(STATISTICS) or STATISTICS]
            without = [span.name for span in manifest.spans if span.name not in having]
            if having and without:
                raise ConfigError(
                    f"{value}: span {without[0]} has no statistics, so there are none of all rows of the dataset; name "
                    f"those of one span, such as {value.rstrip('/')}/{folders[-1]}/{OUT_STATISTICS}"
                )
    return [f"{value.rstrip('/')}/{folder}/{OUT_STATISTICS}" for folder in folders]


def _newest_statistics(value: str) -> str:
    return statistics_files(value)[-1]


# What lies before a run or a window, by names that stand where statistics may.
EARLIER = ("previous", "week", "history")


def _find_against(value: str, what: str) -> None:
    if value not in EARLIER:
        _find_statistics(value, what)


def unlisted(what: str, error: Exception) -> ConfigError:
    """The error for a folder that cannot be listed."""
    return ConfigError(f"{what}: cannot be listed: {error}")


def no_dataset(what: str) -> ConfigError:
    """The error for a folder of a dataset that is not there."""
    return ConfigError(f"{what}: no such folder, or it is empty")


CONFIG = Named("file", _reach_here)
INPUT = Named("file", _reach_input, _find_input, "rows")
PATTERN = Named("file", find=_find_pattern, holds="rows")
FILE = Named("file", find=check_readable, holds="file")
FEATURES = Named("file", _reach_features, check_features_file, "file", features_file)
CUSTOM_CONFIG = Named("file", _reach_config, _find_config, "file", config_file)
ROLLING = Named("file", find=_find_rolling, holds="file")
GRAPH = Named("directory", _reach_graph, _find_graph, "file")
DATASET = Named("directory", find=_find_dataset)
# The first of several arguments, which the job looks at.
DATASET_BARE = Named("directory", is_bare=True)
SHOWN = dataclasses.replace(DATASET, is_bare=True)
OUTPUT = Named("directory")
OUTPUT_FILE = Named("file")
LOG_FILE = Named("file", _reach_here)
SPILL = Named("directory", _reach_disk, _find_spill)
STATISTICS_FILE = Named("file", find=_find_statistics, holds="file", file=_newest_statistics)
AGAINST = dataclasses.replace(STATISTICS_FILE, find=_find_against)
COMPARED = dataclasses.replace(STATISTICS_FILE, is_bare=True)
TOPIC = Named(reach=_reach_topic)
