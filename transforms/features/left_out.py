"""Outputs that are left out of a fitted graph: those of a label, where it serves.

The SavedModel keeps them. They leave the schema of the outputs, so that it describes the rows that are written, and a
file beside it names them: they are not computed.
"""

import json
from collections.abc import Mapping, Sequence

from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.files import stores
from penstock.io.files.folders import delete_files
from penstock.io.files.system_errors import OUTPUT_REMEDY, writing
from penstock.io.schema import write_schema
from penstock.transforms._named import GRAPH_SCHEMA

# Beside the schema, so that it belongs to the fingerprint.
_LEFT_OUT = (GRAPH_SCHEMA[0], "left_out.json")


def read_left_out(transform_dir: str) -> tuple[str, ...]:
    """Returns the outputs of a graph that are left out."""
    path = stores.join(transform_dir, *_LEFT_OUT)
    if not stores.exists(path):
        return ()
    with stores.open_file(path) as file:
        return tuple(json.loads(file.read()))


def leave_out(transform_dir: str, outputs: Mapping[str, Sequence[str]], schema: schema_pb2.Schema) -> None:
    """Leaves outputs out of a fitted graph.

    Args:
      transform_dir: the folder, which is changed.
      outputs: with the columns of each (`SavedGraph.outputs_of`).
      schema: of all outputs.
    """
    all_left_out = sorted({*outputs, *read_left_out(transform_dir)})
    columns = {column for names in outputs.values() for column in names}
    left = schema_pb2.Schema()
    left.CopyFrom(schema)
    for features, names in ((left.feature, columns), (left.sparse_feature, outputs)):
        kept = [feature for feature in features if feature.name not in names]
        del features[:]
        features.extend(kept)
    for group in left.tensor_representation_group.values():
        for name in outputs.keys() & group.tensor_representation.keys():
            del group.tensor_representation[name]
    delete_files(stores.join(transform_dir, GRAPH_SCHEMA[0]), [GRAPH_SCHEMA[1]])
    write_schema(left, stores.join(transform_dir, *GRAPH_SCHEMA))
    told = stores.join(transform_dir, *_LEFT_OUT)
    with (
        writing(told, OUTPUT_REMEDY),
        stores.create_file(told, "application/json") as file,
    ):
        file.write(json.dumps(all_left_out).encode())
