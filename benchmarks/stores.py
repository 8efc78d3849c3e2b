"""Measures jobs on an object store that runs here (moto's S3), by way of a proxy that counts and delays requests::

    python -m benchmarks.stores latency          # a job of 100 MB with 0 and with 50 ms for each request
    python -m benchmarks.stores shards           # requests and seconds, by number of shards
    python -m benchmarks.stores read             # bytes a second, beside obstore alone

Store, proxy and job share the machine's cores, and the store is of Python: bytes a second say what share of its speed
a job reaches, not what a cloud gives. The output is Markdown.
"""

import argparse
import concurrent.futures
import contextlib
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.data import TAXI, generate, schema_text
from benchmarks.measure import run

ROOT = pathlib.Path(__file__).resolve().parent.parent
# The tests have the store and the proxy.
sys.path.append(str(ROOT / "tests"))

from services.fault_proxy.client import FaultProxy, fault_proxy  # noqa: E402
from services.fault_proxy.plan import Fault  # noqa: E402
from services.object_stores import S3, Emulator, running  # noqa: E402

from penstock.io.formats.base import Part  # noqa: E402
from penstock.io.formats.lines import Block  # noqa: E402

_MB = 1e6
_ROW_BYTES = 108
_TIMEOUT_SECONDS = 1800.0
_RANGE_BYTES = 8 << 20


class Arena:
    """A bucket behind a proxy, with the file of the benchmark in it."""

    def __init__(self, folder: pathlib.Path, store: Emulator, proxy: FaultProxy, megabytes: int):
        self.folder, self.proxy = folder, proxy
        self.direct = store.new_bucket()
        self.bucket = store.at(proxy.endpoint, self.direct.bucket)
        os.environ.update(self.bucket.env)
        data = generate(folder / "taxi.csv", "csv", TAXI, int(megabytes * _MB / _ROW_BYTES))
        (folder / "schema.pbtxt").write_text(schema_text(TAXI))
        self._copy(data.path, f"{self.bucket.url}/taxi.csv")
        self._jobs = 0

    @classmethod
    @contextlib.contextmanager
    def open(cls, megabytes: int) -> Iterator["Arena"]:
        """Starts store and proxy, and ends them with the block."""
        with (
            tempfile.TemporaryDirectory() as name,
            running(store := S3(pathlib.Path(name))),
            fault_proxy(store.endpoint, pathlib.Path(name)) as proxy,
        ):
            yield cls(pathlib.Path(name), store, proxy, megabytes)

    @staticmethod
    def _copy(path: pathlib.Path, url: str) -> None:
        from penstock.io.files import stores

        with path.open("rb") as source, stores.create_file(url) as target:
            while data := source.read(_RANGE_BYTES):
                target.write(data)

    def delay(self, seconds: float) -> None:
        """Lets each request take so much longer from now on."""
        self.proxy.plan(*([Fault("latency", seconds=seconds)] if seconds else []))

    def prepare(self, shards: int) -> tuple[float, int]:
        """Runs `prepare` from the bucket into it; returns its seconds, and its requests."""
        self._jobs += 1
        flags = ["--input", f"{self.bucket.url}/taxi.csv", "--schema", str(self.folder / "schema.pbtxt")]
        flags += ["--max_reject_fraction", "0.05", "--num_shards", str(shards), "--output", self._output]
        return self._run("prepare", *flags)

    def verify(self) -> tuple[float, int]:
        """Verifies what was prepared last, in the same way."""
        return self._run("verify", "--dataset", self._output)

    def delete(self) -> tuple[float, int]:
        """Deletes it."""
        from penstock.io.files.folders import remove_folder

        self.proxy.count_anew()
        begin = time.perf_counter()
        remove_folder(self._output)
        return time.perf_counter() - begin, self.proxy.passed().total

    @property
    def _output(self) -> str:
        return f"{self.bucket.url}/out-{self._jobs}"

    def _run(self, job: str, *flags: str) -> tuple[float, int]:
        self.proxy.count_anew()
        log = self.folder / "job.log"
        command = [sys.executable, "-m", "penstock", job, *flags]
        used = run(command, os.environ, self.folder / "job.out", log, _TIMEOUT_SECONDS)
        if used.code:
            raise RuntimeError(f"{job} failed:\n{log.read_text()[-2000:]}")
        return used.wall_seconds, self.proxy.passed().total


def latency(arguments: argparse.Namespace) -> None:
    """A job with and without a delay of each request."""
    with Arena.open(arguments.megabytes) as arena:
        print("| each request takes | seconds | requests |\n| ---: | ---: | ---: |")
        times = []
        for delay in (0.0, 0.05) * arguments.pairs:
            arena.delay(delay)
            seconds, requests = arena.prepare(16)
            times.append(seconds)
            print(f"| {delay * 1000:.0f} ms more | {seconds:.1f} | {requests} |", flush=True)
    ratios = sorted(slow / fast for fast, slow in zip(times[::2], times[1::2], strict=True))
    print(f"\nmedian of ratios: {ratios[len(ratios) // 2]:.2f}")


def shards(arguments: argparse.Namespace) -> None:
    """Jobs with more and more shards, with and without a delay of each request."""
    with Arena.open(arguments.megabytes) as arena:
        print("| shards | job | requests | seconds | with 50 ms more a request |\n| ---: | --- | ---: | ---: | ---: |")
        for count in arguments.shards:
            found: dict[str, list[tuple[float, int]]] = {"prepare": [], "verify": [], "delete": []}
            for delay in (0.0, 0.05):
                arena.delay(delay)
                found["prepare"].append(arena.prepare(count))
                found["verify"].append(arena.verify())
                found["delete"].append(arena.delete())
            for job, ((fast, requests), (slow, _)) in found.items():
                print(f"| {count} | {job} | {requests} | {fast:.1f} | {slow:.1f} |", flush=True)


def read(arguments: argparse.Namespace) -> None:
    """All bytes of an object in parts, as a job plans and reads them, and by obstore alone, in turn."""
    import obstore
    from obstore.store import S3Store

    from penstock.io.files.inputs import find_files
    from penstock.io.formats.lines import read_blocks, split_part

    with Arena.open(arguments.megabytes) as arena:
        os.environ.update(arena.direct.env)
        (file,) = find_files([f"{arena.direct.url}/taxi.csv"]).files
        parts = [(part.start, part.end or file.size, part) for part in split_part(file)]
        options: Any = {"allow_http": True}
        client = S3Store(
            arena.direct.bucket, endpoint=arena.direct.endpoint, region="us-east-1", client_options=options
        )

        def by_penstock(part: tuple[int, int, Part]) -> int:
            return sum(len(block.data) for block in read_blocks(file, part[2]) if isinstance(block, Block))

        def by_obstore(part: tuple[int, int, Part]) -> int:
            start, end, _ = part
            step = -(-(end - start) // max(1, round((end - start) / _RANGE_BYTES)))
            return sum(
                len(obstore.get_range(client, "taxi.csv", start=at, end=min(at + step, end)))
                for at in range(start, end, step)
            )

        print("| reader | MB/s | CPU s of the reader |\n| --- | ---: | ---: |")
        speeds = []
        for _ in range(arguments.pairs):
            for name, reader in (("obstore alone, ranges of about 8 MiB", by_obstore), ("Penstock", by_penstock)):
                before, begin = time.process_time(), time.perf_counter()
                with concurrent.futures.ThreadPoolExecutor(arguments.parts) as pool:
                    if sum(pool.map(reader, parts)) != file.size:
                        raise RuntimeError("not all bytes were read")
                speeds.append(file.size / _MB / (time.perf_counter() - begin))
                print(f"| {name} | {speeds[-1]:.0f} | {time.process_time() - before:.1f} |", flush=True)
    ratios = sorted(ours / alone for alone, ours in zip(speeds[::2], speeds[1::2], strict=True))
    print(f"\nmedian of ratios: {ratios[len(ratios) // 2]:.2f}")


def main() -> None:
    """Runs one measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    for measure, megabytes in ((latency, 100), (shards, 20), (read, 1000)):
        one = what.add_parser(measure.__name__, help=measure.__doc__)
        one.add_argument("--megabytes", type=int, default=megabytes, help="size of the CSV file (default: %(default)s)")
        one.add_argument("--pairs", type=int, default=3, help="how often (default: %(default)s)")
        one.add_argument("--parts", type=int, default=4, help="that are read at once (default: %(default)s)")
        one.add_argument("--shards", type=int, nargs="*", default=[20, 200, 2000], help="numbers of shards")
        one.set_defaults(run=measure)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
