"""The flags of Beam's options: each family of options adds its own to a parser, by a private hook of Beam."""

from collections.abc import Collection
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions


def add_beam_flags(parser: Any, without: Collection[type[PipelineOptions]] = ()) -> None:
    """Adds all flags of Beam to a parser of argparse, without those of the families in `without`.

    Beam parses the flags that it knows and ignores the rest; only Penstock's own parser detects a wrong name or value
    (no issue is filed at Beam).
    """
    for family in PipelineOptions.__subclasses__():
        if family not in without:
            family._add_argparse_args(parser)
