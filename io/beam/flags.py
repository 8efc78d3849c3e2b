"""The flags of Beam's options: each family adds its own to a parser, by a private hook; workers keep those of a job."""

import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions


def add_beam_flags(parser: Any, without: "Collection[type[PipelineOptions]]" = ()) -> None:
    """Adds all flags of Beam to a parser of argparse, without those of the families in `without`.

    Beam parses the flags that it knows and ignores the rest; only Penstock's own parser detects a wrong name or value
    (no issue is filed at Beam).
    """
    from apache_beam.options.pipeline_options import PipelineOptions

    for family in PipelineOptions.__subclasses__():
        if family not in without:
            family._add_argparse_args(parser)


def worker_flags() -> tuple[str, ...]:
    """Returns the flags of the pipeline that this process works for, which Beam keeps for its filesystems; or none."""
    filesystems = sys.modules.get("apache_beam.io.filesystems")
    options = filesystems.FileSystems._pipeline_options if filesystems is not None else None
    return tuple(map(str, getattr(options, "_flags", None) or ()))
