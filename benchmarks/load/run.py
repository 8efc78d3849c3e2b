"""Reads the same shards with everyone, by turns, and prints rows for a second of processor time::

    python -m benchmarks.load.run --rounds 3
    python -m benchmarks.load.run --datasets flat-none-tfrecord,texts-none-tfrecord

Each reader is a process of its own, with one thread, and batches of 1,024 rows. Readers of TFRecord are compared with
`tf.data`; the package `tfrecord` gives single records as dicts, and no batches. Formats that others made are read by
those, too: `webdataset` and `mosaicml-streaming` give dicts of decoded values, grain the bytes of records. Others on
the machine make processor time longer, but for all: the table has the fastest of all passes. Seconds are by the clock,
and mean something where nobody else is there.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks import environments
from benchmarks.load.rows import ROWS, make

_HERE = pathlib.Path(__file__).parent
_ROOT = _HERE.parents[1]

# The tests have PyTorch and others in folders of their own.
sys.path.append(str(_ROOT / "tests"))

from pytorch.folder import pytorch_folder  # noqa: E402
from services.packages import CACHE, package_folder  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Reader:
    """Who reads.

    Attributes:
      script: here, without its suffix.
      requirements: of its environment, a file here; that of Penstock without one.
      options: for the script.
      folder: makes the folder of packages that it needs beside its environment.
    """

    script: str
    requirements: str = ""
    options: tuple[str, ...] = ()
    folder: Callable[[], pathlib.Path] | None = None


def _pytorch() -> pathlib.Path:
    return pytorch_folder(CACHE)


def _webdataset() -> pathlib.Path:
    return package_folder(CACHE, ("webdataset==1.0.2", "braceexpand==0.1.7"))


def _grain() -> pathlib.Path:
    return package_folder(CACHE, ("grain==0.2.18", "cloudpickle==3.1.3", "portpicker==1.6.0"))


def _streaming() -> pathlib.Path:
    return package_folder(CACHE, ("mosaicml-streaming==0.13.0",))


_ARROW = Reader("penstock_arrow")

# Of each format of shards; the others are compared with the last one.
READERS = {
    "tfrecord": {
        "Penstock, Arrow": _ARROW,
        "Penstock, PyTorch": Reader("penstock_torch", options=("ragged",), folder=_pytorch),
        "Penstock, PyTorch, texts as objects": Reader("penstock_torch", folder=_pytorch),
        "tfrecord": Reader("tfrecord_package", "tfrecord.txt"),
        "tf.data, parse_example": Reader("tf_data"),
    },
    "webdataset": {
        "Penstock, Arrow": _ARROW,
        "webdataset": Reader("webdataset_package", folder=_webdataset),
    },
    "arrayrecord": {
        "Penstock, Arrow": _ARROW,
        "grain, bytes": Reader("grain_package", folder=_grain),
        "grain, parse_example": Reader("grain_package", options=("parsed",), folder=_grain),
    },
    "mds": {
        "Penstock, Arrow": _ARROW,
        "mosaicml-streaming": Reader("mosaicml_package", folder=_streaming),
    },
}

# Kind of rows, compression, format.
DATASETS = (
    *(f"{kind}-none-tfrecord" for kind in ROWS),
    "flat-gzip-tfrecord",
    *(f"{kind}-none-{name}" for name in ("webdataset", "arrayrecord", "mds") for kind in ROWS),
)


def read(reader: Reader, dataset: pathlib.Path) -> dict[str, float]:
    """Runs a reader once.

    Raises:
      SystemExit: when it fails; with its last words.
    """
    python = environments.python_of(_HERE / reader.requirements) if reader.requirements else sys.executable
    command = [python, str(_HERE / f"{reader.script}.py"), str(dataset), *reader.options]
    paths = [] if reader.requirements else [str(_ROOT / "src")]
    paths += [str(reader.folder()), str(_ROOT / "tests")] if reader.folder else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command += ["--started", str(time.time())]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(f"{reader.script} ended with {done.returncode}: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def compare(name: str, folder: pathlib.Path, rounds: int) -> None:
    """Prints the lines of one dataset."""
    kind, compression, shard_format = name.split("-")
    dataset = make(folder, kind, compression, shard_format)
    readers, best = READERS[shard_format], dict[str, dict[str, float]]()
    for _ in range(rounds):
        for title, reader in readers.items():
            found = read(reader, dataset)
            if found["rows"] != ROWS[kind]:
                sys.exit(f"{title} gave {found['rows']} rows of {kind}")
            best[title] = {key: min(value, best.get(title, found)[key]) for key, value in found.items()}
    base = best[list(readers)[-1]]["processor"]
    for title, found in best.items():
        cells = (
            f"{kind}, {compression}, {shard_format}",
            title,
            f"{found['rows'] / found['processor']:,.0f}",
            f"{base / found['processor']:.1f}",
            f"{found['imports']:.2f}",
            f"{found['first']:.2f}",
            f"{found['grown'] / 1e6:.1f}",
        )
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument(
        "--datasets", default=",".join(DATASETS), help="kind of rows, compression, format; default: all"
    )
    parser.add_argument("--folder", type=pathlib.Path, default=environments.CACHE / "load")
    arguments = parser.parse_args()
    print("| dataset | reader | rows/s of CPU | x | imports, s | first batch, s | MB grown |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for name in arguments.datasets.split(","):
        compare(name, arguments.folder, arguments.rounds)


if __name__ == "__main__":
    main()
