"""The golden statistics and schemas of TFDV, as `make_golden.py` beside them wrote them."""

import pathlib

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

GOLDEN = pathlib.Path(__file__).parent / "transforms/statistics/schema/golden"


def golden_statistics(name):
    """TFDV's statistics of one of the tables."""
    return statistics_pb2.DatasetFeatureStatisticsList.FromString((GOLDEN / f"{name}.pb").read_bytes())


def golden_schema(name):
    """The schema that TFDV infers from them."""
    return text_format.Parse((GOLDEN / f"{name}.pbtxt").read_text(), schema_pb2.Schema())
