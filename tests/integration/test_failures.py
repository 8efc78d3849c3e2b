"""A failure on a worker reaches the user as one line, wherever the worker runs."""

import gzip

import forked
import pytest

import penstock

pytestmark = pytest.mark.integration


@pytest.fixture
def truncated(tmp_path):
    """A gzip file with an awkward name that ends too early."""
    path = tmp_path / 'it\'s [a] "file".csv.gz'
    path.write_bytes(gzip.compress(b"x\n" + b"".join(b"%d\n" % i for i in range(10_000)))[:-100])
    return path


def prepare(tmp_path, path, *flags) -> tuple[int, list[str]]:
    """Exit code, and the lines on stderr after the first, which says what is done."""
    pattern = str(path).replace("[", "[[]")
    command = ["-m", "pipelines.prepare", f"--input={pattern}", f"--output={tmp_path}/out", *flags]
    done = forked.run(command, cwd=tmp_path)
    assert not done.stdout
    first, *lines = done.stderr.splitlines()
    assert first == f"penstock {penstock.__version__}: prepare {pattern} -> {tmp_path}/out"
    return done.returncode, lines


def check(tmp_path, path, code, lines):
    assert code == 1
    (line,) = lines
    assert line.startswith(f"python -m pipelines.prepare: error: {path}: ")
    assert "running '" not in line
    assert not (tmp_path / "out").exists()


def test_on_threads(tmp_path, truncated):
    flags = ("--direct_num_workers=4",)
    code, lines = prepare(tmp_path, truncated, *flags)
    check(tmp_path, truncated, code, lines)


def test_on_prism(tmp_path, truncated, prism):
    code, lines = prepare(tmp_path, truncated, "--runner=PrismRunner", f"--prism_location={prism}")
    # A thread of Beam's that loses Prism when that stops may print its own end.
    check(tmp_path, truncated, code, [line for line in lines if line.startswith("python -m pipelines.prepare:")])


def test_on_processes(tmp_path, truncated):
    flags = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")
    code, lines = prepare(tmp_path, truncated, *flags)
    check(tmp_path, truncated, code, lines[-1:])  # before it, the processes print what they like
