"""Statistics with a fault each: what is found is what TFDV 1.16.1 finds (make_tfdv_anomalies.py)."""

import functools
import json
import pathlib

import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from penstock.transforms.anomalies.check import check_statistics
from penstock.transforms.anomalies.findings import Findings, Reason, update_schema

GOLDEN = pathlib.Path(__file__).parent / "tfdv_anomalies.json"


@functools.cache
def cases() -> dict:
    return json.loads(GOLDEN.read_text())


def parsed(text: str, kind: type):
    return text_format.Parse(text, kind())


def checked(case: dict, schema: schema_pb2.Schema) -> Findings:
    sides = {
        side: parsed(case[side], statistics_pb2.DatasetFeatureStatisticsList)
        for side in ("statistics", "baseline", "serving")
        if side in case
    }
    return check_statistics(**sides, schema=schema, environment=case.get("environment"))


def reasons(anomalies: anomalies_pb2.Anomalies) -> list[tuple[str, str]]:
    """Feature and type of each reason; those beyond the schema, which TFDV does not look for, left out."""
    found = [(name, reason) for name, info in anomalies.anomaly_info.items() for reason in info.reason]
    found += [("", reason) for reason in anomalies.dataset_anomaly_info.reason]
    return sorted((name, Reason.Name(reason.type)) for name, reason in found)


def measurements(anomalies: anomalies_pb2.Anomalies) -> list[tuple]:
    return sorted(
        (tuple(info.path.step), side, one.type, round(one.value, 6), round(one.threshold, 6))
        for info in anomalies.drift_skew_info
        for side in ("drift_measurements", "skew_measurements")
        for one in getattr(info, side)
    )


def test_there_are_forty_faults():
    assert sum(bool(reasons(parsed(case["anomalies"], anomalies_pb2.Anomalies))) for case in cases().values()) >= 40


@pytest.mark.parametrize("name", sorted(cases()))
def test_finds_what_tfdv_finds(name):
    case = cases()[name]
    expected = parsed(case["anomalies"], anomalies_pb2.Anomalies)
    found = checked(case, parsed(case["schema"], schema_pb2.Schema)).to_proto()
    assert reasons(found) == reasons(expected)
    assert measurements(found) == measurements(expected)
    assert found.data_missing == expected.data_missing
    assert {name: info.severity for name, info in found.anomaly_info.items()} == {
        name: info.severity for name, info in expected.anomaly_info.items()
    }


@pytest.mark.parametrize("name", sorted(cases()))
def test_updated_schema_accepts_them(name):
    case = cases()[name]
    schema = parsed(case["schema"], schema_pb2.Schema)
    before = schema.SerializeToString(deterministic=True)
    findings = checked(case, schema)
    updated = update_schema(schema, findings)
    assert [finding.text for finding in checked(case, updated) if finding.code.startswith("schema.")] == []
    assert schema.SerializeToString(deterministic=True) == before
    assert bool(findings) == (updated != schema)
