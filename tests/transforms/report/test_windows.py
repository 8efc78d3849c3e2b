"""Windows in a report: rows of the table, lines, sums, anomalies as alerts."""

import pytest
import report_samples as samples
from report_samples import window

from penstock.io.dataset.observer import Anomaly
from penstock.io.errors import ConfigError
from penstock.transforms.report.report import Report
from penstock.transforms.report.windows import MAX_SHOWN, sums_of, window_lines, window_rows


def test_rows_are_the_newest_first_and_bounded():
    many = [window(minute, {}) for minute in range(MAX_SHOWN + 3)]
    rows = window_rows(many)
    assert len(rows) == MAX_SHOWN
    assert rows[0].start == many[-1].window[0]


def test_a_row_names_the_most_frequent_reasons():
    (row,) = window_rows([window(0, {"a": 1, "b": 5, "c": 2, "d": 3}, status="quarantined")])
    assert row.reasons == "b 5, d 3, c 2, and 1 more"
    assert (row.status, row.is_bad, row.rejected) == ("too many rejects", True, 11)
    assert window_rows([window(0, {}, final=False)])[0].status == "takes late rows"


def test_lines_are_of_rows_and_of_rejects_by_reason():
    lines = {line.label: line.values for line in window_lines([window(0, {"a": 1}), window(1, {"b": 7})])}
    assert lines == {
        "rows in": [100, 100],
        "rows late": [10, 10],
        "rows rejected": [1, 7],
        "rejected for b": [0, 7],
        "rejected for a": [1, 0],
    }


def test_sums_are_those_of_one_dataset():
    sums = sums_of([window(0, {"a": 1}), window(1, {"a": 2, "b": 3})])
    assert (sums["rows_in"], sums["rows_out"], sums["rows_rejected"]) == (200, 194, 6)
    assert sums["rejected_by_reason"] == {"a": 3, "b": 3}
    assert sums["splits"] == {"train": 194}
    assert sums["window"] == ("2026-01-01T00:00:00Z", "2026-01-01T00:59:59Z")
    assert sums_of([]) is None


def test_anomalies_are_alerts_errors_first_then_those_of_the_newest():
    def unusual(severity: str, text: str) -> tuple[Anomaly]:
        return (Anomaly("'a.b'", "HISTORY_LEVEL", severity, f"Left: {text}", "history", "train"),)

    windows = [
        window(0, {}, anomalies=unusual("warning", "old <b>")),
        window(1, {}, anomalies=unusual("error", "grave")),
        window(2, {}, anomalies=unusual("warning", "new")),
    ]
    page = Report(statistics=samples.statistics_of({"a.b": [1.0, 2.0]}), windows=windows).to_html()
    assert page.index("grave") < page.index("new Compared with history.") < page.index("old &lt;b&gt;")
    assert "1 error, 2 warnings" in page
    assert '<a href="#f0" class="value">a.b</a>: ' in page
    assert "Left (train) in 2026-01-01T00:01:00Z to" in page


def test_an_anomaly_that_a_check_has_found_too_is_one_alert():
    from penstock.transforms.anomalies.check import check_statistics
    from penstock.transforms.anomalies.told import anomaly_of

    now, before = (samples.statistics_of({"x": [float(row % size) for row in range(500)]}) for size in (9, 90))
    findings = check_statistics(now, baseline=before)
    assert findings
    own = samples.MANIFEST | {"anomalies": [vars(anomaly_of(one, "before.pb")) for one in findings]}
    page = Report(statistics=now, anomalies=findings, manifest=own).to_html()
    assert f"Alerts ({len(findings)})" in page


def test_a_dataset_is_one_or_has_windows():
    with pytest.raises(ConfigError, match="pass manifest or windows"):
        Report(statistics=samples.statistics_of({}), manifest=samples.MANIFEST, windows=[window(0, {})])
