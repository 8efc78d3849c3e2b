"""The flags of Beam's options: each family adds its own to a parser, by a hook that Beam has for its own use only."""

from collections.abc import Collection
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions


def add_beam_flags(parser: Any, without: Collection[type[PipelineOptions]] = ()) -> None:
    """Adds all flags of Beam to a parser of argparse, but not those of the families in `without`.

    Beam would parse what it knows and ignore the rest: a wrong name or value is only found by a parser of one's own (no
    issue is filed at Beam).
    """
    for family in PipelineOptions.__subclasses__():
        if family not in without:
            family._add_argparse_args(parser)
