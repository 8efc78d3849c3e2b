"""Reports on what lies in a folder: a dataset, windows of a stream, files that are damaged."""

import pytest
from helpers import run_prepare, write_csv

from penstock.io.errors import ConfigError
from penstock.transforms.dataset_report import dataset_report
from penstock.transforms.verify import Fault

START = 1_700_000_040
COLUMNS = ("id", "time", "fare")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Four windows: in the last one the fares moved, and rows are rejected; and the same rows as one dataset."""
    folder = tmp_path_factory.mktemp("report")
    rows = [
        {"id": row, "time": START + 60 * minute + row % 60, "fare": row % 7 + (40 if minute == 3 else 0)}
        for minute in range(4)
        for row in range(200)
    ]
    rules = folder / "rules.yaml"
    rules.write_text(f"rules:\n  - {{name: early, sql: 'id > 20 OR time < {START + 180}'}}\n")
    source = write_csv(folder / "rows.csv", rows, COLUMNS)
    flags = ("--input", source, "--rules", rules, "--num_shards=1", "--max_reject_fraction=0.4")
    windows = (
        "--event_time=time:s",
        "--window=fixed:60s",
        "--check_against=previous",
        f"--report={folder}/w.html",
        "--direct_num_workers=1",
    )
    assert run_prepare(*flags, "--output", folder / "windows", *windows) == 0
    assert run_prepare(*flags, "--output", folder / "whole", "--split=train=0.8,eval=0.2") == 0
    return folder


def test_windows_have_their_alerts_rows_and_rejects(written):
    report = dataset_report(str(written / "windows"))
    page = report.to_html()
    assert (written / "w.html").read_text() == page
    assert page.count('<tr><th scope="row">2023-11-14T22:1') == 4
    assert "rule.early 21" in page
    assert "rejected for rule.early" in page  # a line
    assert "in 2023-11-14T22:17:00.000000Z to 2023-11-14T22:18:00.000000Z" in page
    names = [dataset.name for dataset in report.statistics.datasets]
    assert names == ["train, 2023-11-14T22:17:00.000000Z", "train, 3 windows before"]
    assert [dataset.num_examples for dataset in report.statistics.datasets] == [179, 600]


def test_a_dataset_has_its_splits_schema_and_letters(written):
    page = dataset_report(str(written / "whole")).to_html()
    for part in ("800", "rule.early", "eval", "What the schema asks", "rows.csv:"):
        assert part in page
    assert "The data was not checked" in page
    assert "No anomaly was found" in dataset_report(str(written / "whole"), faults=()).to_html()


def test_faults_come_first_and_what_cannot_be_read_is_one(written, tmp_path):
    copy = tmp_path / "out"
    for path in (written / "windows").rglob("*"):
        if path.is_file():
            (copy / path.relative_to(written / "windows")).parent.mkdir(parents=True, exist_ok=True)
            (copy / path.relative_to(written / "windows")).write_bytes(path.read_bytes())
    first, *_ = sorted(copy.glob("windows/*.json"))
    first.write_text("{")
    next(copy.glob("statistics/*2217*.pb")).write_bytes(b"\xff")
    fault = Fault("shard.crc32c", "part-0", "is <b>damaged</b>")
    page = dataset_report(str(copy), [fault]).to_html()
    alerts = page[page.index('id="h-alerts"') : page.index('id="h-rows"')]
    assert alerts.index("is &lt;b&gt;damaged&lt;/b&gt;") < alerts.index(f"windows/{first.name}")
    assert "20231114T221700Z" in alerts  # its statistics
    assert page.count('<tr><th scope="row">2023-11-14T22:1') == 3


def test_nothing_is_no_report(tmp_path):
    with pytest.raises(ConfigError, match="nothing is published there yet"):
        dataset_report(str(tmp_path))
