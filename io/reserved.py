"""Columns of Penstock's own, which travel with the rows through every transform.

They are left out by the encoder, by validation and by `hash_rows`, and no column of data may have such a name:

==============  ======================================================  =======================================
column          type                                                    set by
==============  ======================================================  =======================================
`_origin`       struct<uri: dictionary<int32, string>, position: int64>  the sources
`_event_time`   timestamp[us, UTC]                                      `AssignEventTime`
`_split`        dictionary<int32, string>                               `AssignSplit`
`_shuffle_key`  uint64                                                  `AssignShuffleKey`, or the sources
`_attempt`      int64: `attempt` of a dead letter, should it become one  the source of a replay
`_source`       struct: see `penstock.io.dead_letters.source`            the sources, or `KeepSource`
`_notes`        list<dictionary<int32, string>>: see                    `ValidateRecords`, where something only warns
                `penstock.io.columns.row_notes`
==============  ======================================================  =======================================
"""

from collections.abc import Mapping
from typing import Any

ORIGIN = "_origin"
EVENT_TIME = "_event_time"
SPLIT = "_split"
SHUFFLE_KEY = "_shuffle_key"
ATTEMPT = "_attempt"
SOURCE = "_source"
NOTES = "_notes"
RESERVED = frozenset({ORIGIN, EVENT_TIME, SPLIT, SHUFFLE_KEY, ATTEMPT, SOURCE, NOTES})

# What becomes of `_origin` in records that keep it (`--keep_origin`): two columns beside the data, which loaders leave
# out. They are no features: no schema, statistics or hash of rows knows them, so splits and order are those of the rows
# without them. The names are not reserved, since a dataset is read as input too.
ORIGIN_NAMES = (f"{ORIGIN}.uri", f"{ORIGIN}.position")

_PROVENANCE = "origin_columns"


def origin_provenance() -> dict[str, Any]:
    """What the manifest of a dataset says whose records keep their origins."""
    return {_PROVENANCE: list(ORIGIN_NAMES)}


def keeps_origins(provenance: Mapping[str, Any]) -> bool:
    """Whether the manifest with this provenance is of records that keep their origins."""
    return bool(provenance.get(_PROVENANCE))
