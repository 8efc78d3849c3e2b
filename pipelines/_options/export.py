"""The flags of `export`."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from penstock.io.errors import ConfigError
from penstock.io.files.apart import check_apart
from pipelines._cli.command import JobOptions
from pipelines._cli.flags import Options, flag
from pipelines._cli.named import GRAPH, OUTPUT

_EXAMPLES = """examples:
  the features of a dataset, for a program that serves a model
    penstock export --transform dataset/transform --output graph

exit codes: 0 done; 1 the graph cannot be written; 2 wrong usage, no features that Arrow fitted, no extra tft"""


@dataclasses.dataclass(frozen=True)
class SavedModelOptions(Options):
    """What is exported, and where it goes."""

    title = "features and graph"

    transform: str | None = flag("folder of features that Arrow fitted", metavar="DIR", names=GRAPH)
    output: str | None = flag("folder of the graph: tft.TFTransformOutput loads it", metavar="DIR", names=OUTPUT)
    overwrite: bool = flag("replace a graph that is in OUTPUT", False, action="store_true")
    json: bool = flag("print how the job ended as one line of JSON (docs/jobs.md)", False, action="store_true")
    verbose: bool = flag("show the traceback of a failure, and all that is logged of it", False, action="store_true")


@dataclasses.dataclass(frozen=True)
class ExportOptions(JobOptions):
    """All flags of the job."""

    name: ClassVar[str] = "export"
    description: ClassVar[str] = "Exports features that Arrow fitted as a SavedModel of tensorflow-transform."
    examples: ClassVar[str] = _EXAMPLES
    elsewhere: ClassVar[Mapping[str, str]] = {"--features": "is of penstock fit and prepare: they fit features"}

    graph: SavedModelOptions

    def check(self) -> None:
        """Refuses a command line without both folders.

        Raises:
          ConfigError: says what to give.
        """
        if not self.graph.transform:
            raise ConfigError("--transform is required: the folder of the fitted features")
        if not self.graph.output:
            raise ConfigError("--output is required: the folder of the graph")

    def check_apart(self) -> None:
        """Refuses a graph inside the features, and features inside the graph.

        Raises:
          ConfigError: names both.
        """
        transform, output = str(self.graph.transform), str(self.graph.output)
        check_apart(transform, f"--transform {transform}", output, ["transform_fn/saved_model.pb"])
