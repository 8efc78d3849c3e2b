import report_samples as samples
from tensorflow_metadata.proto.v0 import anomalies_pb2

from penstock.transforms.anomalies.findings import Distances, Finding, Findings, Measured, Severity
from penstock.transforms.report.alerts import (
    alerts_by_path,
    alerts_of,
    alerts_of_findings,
    distances_of,
    distances_of_findings,
)


def test_no_anomaly_is_no_alert():
    assert alerts_of(anomalies_pb2.Anomalies()) == []


def test_errors_come_first_and_greater_distances_before_smaller_ones():
    anomalies = samples.anomalies_of(a="WARNING", b="ERROR", c="ERROR", d="WARNING")
    samples.add_distance(anomalies, "c", 0.9, 0.1)
    samples.add_distance(anomalies, "b", 0.2, 0.1)
    samples.add_distance(anomalies, "d", 0.15, 0.1)
    anomalies.dataset_anomaly_info.severity = anomalies_pb2.AnomalyInfo.WARNING
    found = alerts_of(anomalies)
    assert [alert.path for alert in found] == ["c", "b", "", "d", "a"]
    assert [alert.severity for alert in found] == ["error", "error", "warning", "warning", "warning"]


def test_missing_data_is_the_first_error():
    anomalies = samples.anomalies_of(a="ERROR")
    anomalies.data_missing = True
    assert [alert.title for alert in alerts_of(anomalies)] == ["No data", "Out of range"]


def test_a_finding_has_all_of_its_reasons_with_their_types():
    anomalies = samples.anomalies_of(a="ERROR")
    anomalies.anomaly_info["a"].reason.add(type="FLOAT_TYPE_HAS_NAN", short_description="NaN", description="2 \u202ex")
    [alert] = alerts_of(anomalies)
    assert alert.reasons[1] == ("FLOAT_TYPE_HAS_NAN", "NaN", "2 ⟨U+202E⟩x")
    assert alerts_by_path([alert]) == {"a": 2}


def test_an_anomaly_without_a_path_is_found_by_its_key():
    anomalies = anomalies_pb2.Anomalies()
    anomalies.anomaly_info["fare"].description = "new"
    assert [(alert.path, alert.title, alert.text) for alert in alerts_of(anomalies)] == [("fare", "Finding", "new")]


def test_distances_are_sorted_by_how_far_they_are_over_their_thresholds():
    anomalies = anomalies_pb2.Anomalies()
    samples.add_distance(anomalies, "near", 0.5, 1.0)
    samples.add_distance(anomalies, "far", 0.2, 0.1)
    samples.add_distance(anomalies, "free", 0.7, None)
    anomalies.drift_skew_info[0].skew_measurements.add(type="L_INFTY", value=9, threshold=1)
    assert [(d.path, d.kind, d.measure, d.excess) for d in distances_of(anomalies)] == [
        ("near", "skew", "l_infinity", 9),
        ("far", "drift", "jensen_shannon", 2),
        ("free", "drift", "jensen_shannon", 0.7),
        ("near", "drift", "jensen_shannon", 0.5),
    ]


def test_a_path_with_its_dataset_is_the_path_of_the_feature():
    anomalies = samples.anomalies_of(**{"slice(train)::fare": "ERROR"})
    samples.add_distance(anomalies, "slice(train)::fare", 0.3, 0.1)
    assert [alert.path for alert in alerts_of(anomalies)] == ["fare"]
    assert [(one.path, one.name) for one in distances_of(anomalies)] == [("fare", "slice(train)::fare")]


def test_findings_keep_their_order_and_say_all():
    warning = Finding(("b",), "drift.nulls", 1, "More nulls", "1 %", "9 %", Severity.WARNING, rows=9, dataset="train")
    error = Finding((), "schema.rows", 1, "Too few rows", "10", "1", fix="num_examples", dataset="eval")
    found = alerts_of_findings(Findings((error, warning), datasets=("train", "eval")))
    assert [(alert.severity, alert.path, alert.title) for alert in found] == [
        ("error", "", "Too few rows (eval)"),
        ("warning", "b", "More nulls (train)"),
    ]
    assert found[1].text == "expected 1 %; seen: 9 %; about 9 rows"
    assert found[0].reasons[0][0] == "schema.rows"


def test_distances_of_findings_are_those_with_a_threshold_and_then_the_others():
    measured = Measured("train", ("a",), "drift", 2, 0.25, 0.125)
    distances = Distances("train", ("a",), "drift", kolmogorov_smirnov=0.9, jensen_shannon=0.25)
    found = distances_of_findings(Findings(datasets=("train",), measured=(measured,), distances=(distances,)))
    assert [(one.measure, one.value, one.threshold) for one in found] == [
        ("jensen_shannon", 0.25, 0.125),
        ("kolmogorov_smirnov", 0.9, None),
    ]
