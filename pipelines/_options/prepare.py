"""The flags of `prepare`."""

import dataclasses
from typing import ClassVar

from pipelines._cli.options import InputOptions
from pipelines._cli.streams import is_endless
from pipelines._options.dataset import DatasetJobOptions

_EXAMPLES = """examples:
  every CSV file of a folder; the schema is inferred and written to out/schema.pbtxt
    penstock prepare --input 'data/*.csv' --output out

  a curated schema, rules, features and splits
    penstock prepare --input 'data/*.parquet' --schema schema.pbtxt --rules rules.yaml \\
        --features features.yaml --label fare --split train=0.8,eval=0.1,test=0.1 --split_key user_id --output out

  train on what came before June, evaluate on the rest; what lies within a day before it is in neither
    penstock prepare --input 'data/*.parquet' --schema schema.pbtxt --event_time pickup:s \\
        --split_time 'train<2026-06-01, eval' --split_gap 1d --output out

  the same as a file of flags; a flag wins over the file
    penstock prepare --config job.yaml --overwrite

  a stream: one dataset for each minute, with rows that come up to 30 seconds late
    penstock prepare --input 'kafka://localhost:9092/events' --schema schema.pbtxt --transform graph \\
        --window fixed:60s --allowed_lateness 30s --num_shards 4 --output out --runner FlinkRunner

  a stream without event times: a dataset for 100,000 rows, or what has come in 30 seconds
    penstock prepare --input 'kafka://localhost:9092/events' --schema schema.pbtxt \\
        --flush_rows 100000 --flush_every 30s --num_shards 4 --output out

  the rows of today, published only if they are like those of yesterday; the report shows both
    penstock prepare --input 'today/*.csv' --schema schema.pbtxt --check_against yesterday --report today.html \\
        --output today

  the rows of another day, added to the dataset; all that is not said is as in the dataset
    penstock prepare --append --span 2026-11-27 --input 'days/2026-11-27/*.csv' --output out

exit codes: 0 done; 1 the data failed (too many rejects, too much drift); 2 wrong usage or configuration"""


@dataclasses.dataclass(frozen=True)
class PrepareOptions(DatasetJobOptions):
    """All flags of the job, by family, and Beam's."""

    name: ClassVar[str] = "prepare"
    description: ClassVar[str] = "Turns raw files or topics into a dataset of checked shards."
    examples: ClassVar[str] = _EXAMPLES
    may_append: ClassVar[bool] = True

    input: InputOptions

    def check_input(self) -> None:
        """Refuses a job without input.

        Raises:
          ConfigError: says what to give.
        """
        self.input.check_given()

    @property
    def is_endless(self) -> bool:
        """Whether the input has no end, as far as the flags tell."""
        return is_endless(self.input, self.stream)
