"""What the contestants on Beam have in common: the runner, and reading rows."""

import apache_beam as beam
from _protocol import Task
from _rows import RowParser, is_good
from apache_beam.options.pipeline_options import PipelineOptions


def pipeline_options(setting: str) -> PipelineOptions:
    """The runner that Penstock runs on too, set to "in_memory 1", "in_memory 0" (a thread for each core) or
    "multi_processing 0" (a process for each core)."""
    mode, workers = setting.split()
    return PipelineOptions(runner="FnApiRunner", direct_num_workers=int(workers), direct_running_mode=mode)


class ReadGoodRows(beam.PTransform):
    """The rows of the input that are not bad."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self._task = task

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """Reads, parses and filters."""
        path, parser = self._task.input, RowParser(self._task.columns)
        if self._task.format == "parquet":
            rows = pipeline | beam.io.ReadFromParquet(path) | beam.Map(parser.from_dict)
        elif self._task.format == "jsonl":
            rows = pipeline | beam.io.ReadFromText(path) | beam.Map(parser.from_json)
        else:
            rows = pipeline | beam.io.ReadFromText(path, skip_header_lines=1) | beam.Map(parser.from_line)
        return rows | beam.Filter(is_good).with_output_types(dict)
