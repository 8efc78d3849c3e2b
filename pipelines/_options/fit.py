"""The flags of `fit`."""

import dataclasses
from typing import ClassVar, get_args

from penstock.io.errors import ConfigError
from penstock.transforms._named import AnyEngine, check_custom_config
from pipelines._cli.command import JobOptions
from pipelines._cli.flags import Options, flag
from pipelines._cli.named import CUSTOM_CONFIG, FEATURES, OUTPUT, OUTPUT_FILE
from pipelines._cli.options import (
    EXPORT_SAVED_MODEL,
    FEATURES_ENGINE,
    CheckOptions,
    InputOptions,
    RunOptions,
    SplitOptions,
)
from pipelines._options.statistics import check_inputs_apart, check_report_outside

_EXAMPLES = """examples:
  fit the features on the train split, then apply them to other data
    penstock fit --input 'data/*.csv' --schema schema.pbtxt --features features.yaml \\
        --split train=0.8,eval=0.2 --output graph
    penstock prepare --input 'new/*.csv' --schema schema.pbtxt --transform graph --output dataset

exit codes: 0 done; 1 the data failed (no rows, a truncated file); 2 wrong usage or configuration"""


@dataclasses.dataclass(frozen=True)
class GraphOptions(Options):
    """What is fitted, and where it goes."""

    title = "features and graph"

    features: str | None = flag(
        "features to fit: a YAML file, or a Python function (needs the extra tft)",
        metavar="FILE|FILE.py[:FUNCTION]|MODULE:FUNCTION",
        names=FEATURES,
    )
    custom_config: str | None = flag(
        "what the function of --features gets as custom_config: an object in JSON, or a JSON file",
        metavar="JSON|FILE",
        names=CUSTOM_CONFIG,
    )
    features_engine: AnyEngine = flag(FEATURES_ENGINE, "auto", choices=get_args(AnyEngine))
    export_saved_model: bool = flag(EXPORT_SAVED_MODEL, False, action="store_true")
    output: str | None = flag(
        "folder of the graph; without --schema, the inferred schema goes there too", metavar="DIR", names=OUTPUT
    )
    overwrite: bool = flag("replace a graph that is in OUTPUT", False, action="store_true")
    report: str | None = flag(
        "write a report on the rows that were fitted, one HTML file", metavar="FILE.html", names=OUTPUT_FILE
    )


@dataclasses.dataclass(frozen=True)
class FitOptions(JobOptions):
    """All flags of the job, by family, and Beam's."""

    name: ClassVar[str] = "fit"
    description: ClassVar[str] = "Fits features to the train split."
    examples: ClassVar[str] = _EXAMPLES

    input: InputOptions
    checks: CheckOptions
    split: SplitOptions
    graph: GraphOptions
    run: RunOptions

    def check(self) -> None:
        """Refuses flags that are missing or do not go together.

        Raises:
          ConfigError: names them.
        """
        self.run.check_runs()
        if not self.graph.features:
            raise ConfigError("--features is required: a YAML file, or a function as module.py:function")
        check_custom_config(self.graph.custom_config, self.graph.features)
        if not self.graph.output:
            raise ConfigError("--output is required: the folder of the graph")
        self.split.names()
        self.input.check_given()

    def check_apart(self) -> None:
        """Refuses inputs, and a report, that lie in the folder of the graph, and a graph among the inputs.

        Raises:
          ConfigError: names both.
        """
        check_inputs_apart(self.input.input, str(self.graph.output))
        check_report_outside(self.graph.report, "output", str(self.graph.output))
