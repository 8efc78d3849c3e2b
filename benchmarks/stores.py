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
from collections.abc import Callable, Iterator

from benchmarks.data import TAXI, generate, schema_text
from benchmarks.measure import run

ROOT = pathlib.Path(__file__).resolve().parent.parent
# The tests have the store and the proxy.
sys.path.append(str(ROOT / "tests"))

from services.fault_proxy.client import FaultProxy, fault_proxy  # noqa: E402
from services.fault_proxy.plan import Fault  # noqa: E402
from services.object_stores import S3, ObjectStore, running  # noqa: E402

_MB = 1e6
_ROW_BYTES = 108
_TIMEOUT_SECONDS = 1800.0
_RANGE_BYTES = 8 << 20


class Arena:
    """A bucket behind a proxy, with the file of the benchmark in it."""

    def __init__(self, folder: pathlib.Path, bucket: ObjectStore, proxy: FaultProxy, megabytes: int):
        self.folder, self.bucket, self.proxy = folder, bucket, proxy
        data = generate(folder / "taxi.csv", "csv", TAXI, int(megabytes * _MB / _ROW_BYTES))
        (folder / "schema.pbtxt").write_text(schema_text(TAXI))
        self._copy(data.path, f"{bucket.url}/taxi.csv")
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
            bucket = store.new_bucket()
            through = store.at(proxy.endpoint, bucket.bucket)
            os.environ.update(through.env)
            yield cls(pathlib.Path(name), through, proxy, megabytes)

    @staticmethod
    def _copy(path: pathlib.Path, url: str) -> None:
        from penstock.io.files import stores

        with path.open("rb") as source, stores.create_file(url) as target:
            while data := source.read(_RANGE_BYTES):
                target.write(data)

    def prepare(self, shards: int) -> tuple[float, int]:
        """Runs `prepare` from the bucket into it; returns its seconds, and its requests."""
        self._jobs += 1
        command = [sys.executable, "-m", "penstock", "prepare", "--input", f"{self.bucket.url}/taxi.csv"]
        command += ["--schema", str(self.folder / "schema.pbtxt"), "--max_reject_fraction", "0.05"]
        command += ["--output", f"{self.bucket.url}/out-{self._jobs}", "--num_shards", str(shards)]
        self.proxy.count_anew()
        log = self.folder / "job.log"
        used = run(command, os.environ, self.folder / "job.out", log, _TIMEOUT_SECONDS)
        if used.code:
            raise RuntimeError(f"prepare failed:\n{log.read_text()[-2000:]}")
        return used.wall_seconds, self.proxy.passed().total


def latency(arguments: argparse.Namespace) -> None:
    """A job with and without a delay of each request."""
    with Arena.open(arguments.megabytes) as arena:
        print("| each request takes | seconds | requests |\n| ---: | ---: | ---: |")
        times = []
        for delay in (0.0, 0.05) * arguments.pairs:
            arena.proxy.plan(*([Fault("latency", seconds=delay)] if delay else []))
            seconds, requests = arena.prepare(16)
            times.append(seconds)
            print(f"| {delay * 1000:.0f} ms more | {seconds:.1f} | {requests} |", flush=True)
    ratios = sorted(slow / fast for fast, slow in zip(times[::2], times[1::2], strict=True))
    print(f"\nmedian of ratios: {ratios[len(ratios) // 2]:.2f}")


def shards(arguments: argparse.Namespace) -> None:
    """A job with more and more shards."""
    with Arena.open(arguments.megabytes) as arena:
        arena.proxy.plan(Fault("latency", seconds=0.05))
        print("| shards | requests | seconds, 50 ms a request |\n| ---: | ---: | ---: |")
        for count in (20, 200, 2000):
            seconds, requests = arena.prepare(count)
            print(f"| {count} | {requests} | {seconds:.1f} |", flush=True)


def read(arguments: argparse.Namespace) -> None:
    """All bytes of an object in parts, as a job reads them, and by obstore alone."""
    import obstore
    from obstore.store import S3Store

    from penstock.io.files import stores

    with Arena.open(arguments.megabytes) as arena:
        url, size = f"{arena.bucket.url}/taxi.csv", arena.folder.joinpath("taxi.csv").stat().st_size
        part = -(-size // arguments.parts)
        starts = range(0, size, part)
        client = S3Store(
            arena.bucket.bucket, endpoint=arena.bucket.endpoint, region="us-east-1", client_options={"allow_http": True}
        )

        def by_stores(start: int) -> int:
            with stores.open_file(url, size) as file:
                file.seek(start)
                left = min(part, size - start)
                while left:
                    left -= len(file.read(min(left, 1 << 20)))
            return min(part, size - start)

        def by_obstore(start: int) -> int:
            end = min(start + part, size)
            return sum(
                len(obstore.get_range(client, "taxi.csv", start=at, end=min(at + _RANGE_BYTES, end)))
                for at in range(start, end, _RANGE_BYTES)
            )

        print("| reader | MB/s |\n| --- | ---: |")
        for _ in range(arguments.pairs):
            for name, reader in (("obstore, ranges of 8 MiB", by_obstore), ("Penstock", by_stores)):
                print(f"| {name} | {_speed(reader, starts, size):.0f} |", flush=True)


def _speed(reader: Callable[[int], int], starts: range, size: int) -> float:
    begin = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(len(starts)) as pool:
        if sum(pool.map(reader, starts)) != size:
            raise RuntimeError("not all bytes were read")
    return size / _MB / (time.perf_counter() - begin)


def main() -> None:
    """Runs one measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    for measure, megabytes in ((latency, 100), (shards, 20), (read, 1000)):
        one = what.add_parser(measure.__name__, help=measure.__doc__)
        one.add_argument("--megabytes", type=int, default=megabytes, help="size of the CSV file (default: %(default)s)")
        one.add_argument("--pairs", type=int, default=3, help="how often (default: %(default)s)")
        one.add_argument("--parts", type=int, default=4, help="that are read at once (default: %(default)s)")
        one.set_defaults(run=measure)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
