"""The flags of `relax`."""

import dataclasses
import os
from collections.abc import Mapping
from typing import ClassVar

from penstock.io.errors import ConfigError
from penstock.io.files.paths import is_local
from pipelines._cli.command import JobOptions
from pipelines._cli.flags import Options, flag
from pipelines._cli.named import FILE, OUTPUT_FILE
from pipelines._cli.options import InputOptions, RunOptions
from pipelines._options.statistics import check_inputs_apart

_EXAMPLES = """examples:
  a schema that rejects rows of the data, relaxed until it accepts them all
    penstock relax --input 'data/*.csv' --schema schema.pbtxt --output relaxed.pbtxt
    penstock prepare --input 'data/*.csv' --schema relaxed.pbtxt --output dataset

exit codes: 0 done; 1 the data failed (no rows, a truncated file); 2 wrong usage or configuration"""


@dataclasses.dataclass(frozen=True)
class SchemaOptions(Options):
    """Which schema is relaxed, and where the relaxed one goes."""

    title = "schema"

    schema: str | None = flag("tensorflow_metadata Schema in text format", metavar="FILE", names=FILE)
    environment: str | None = flag(
        "where the rows come from, such as SERVING: what the schema does not expect there is not looked at",
        metavar="NAME",
    )
    output: str | None = flag("file of the relaxed schema", metavar="FILE", names=OUTPUT_FILE)
    overwrite: bool = flag("replace the file OUTPUT, which may be the schema itself", False, action="store_true")


@dataclasses.dataclass(frozen=True)
class RelaxOptions(JobOptions):
    """All flags of the job, by family, and Beam's."""

    name: ClassVar[str] = "relax"
    description: ClassVar[str] = "Relaxes a schema to what the data holds, and shows the difference."
    examples: ClassVar[str] = _EXAMPLES
    elsewhere: ClassVar[Mapping[str, str]] = {"--report": "is of penstock check: it shows the rows beside a schema"}

    input: InputOptions
    schema: SchemaOptions
    run: RunOptions

    def check(self) -> None:
        """Refuses flags that are missing or do not go together.

        Raises:
          ConfigError: names them.
        """
        self.run.check_runs()
        if not self.schema.schema:
            raise ConfigError("--schema is required: the schema to relax; prepare infers one where there is none")
        if not self.schema.output:
            raise ConfigError("--output is required: the file of the relaxed schema")
        self.input.check_given()

    def check_apart(self) -> None:
        """Refuses an output that is there, unless it may be replaced, and one that is the input.

        Raises:
          ConfigError: names it.
        """
        output = str(self.schema.output)
        check_inputs_apart(self.input.input, output)
        if is_local(output) and os.path.isdir(output):
            raise ConfigError(f"--output {output}: is a folder; name the file of the relaxed schema")
        if is_local(output) and os.path.exists(output) and not self.schema.overwrite:
            raise ConfigError(f"--output {output} is there already; pass --overwrite to replace it")
