"""The command `penstock`: every way to type it, what it answers without Beam, and what may lie in its user's folder."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
from helpers import write_csv, write_schema_file

import penstock
from penstock.io.errors import ConfigError
from penstock.io.files import extras
from penstock.io.kernel import compiled
from pipelines import _main
from pipelines._cli import beam as _beam
from pipelines._cli import beam_flags as _beam_flags
from pipelines._cli import flags as _flags
from pipelines._cli import named
from pipelines._cli.command import UNREAD, announce, main
from pipelines._report.process import job_started
from pipelines._report.result import DATA_FAILED, DONE, WRONG_USAGE

SOURCES = pathlib.Path(__file__).parents[3] / "src"
SCRIPT = "import sys\nfrom penstock.__main__ import main\nsys.exit(main())\n"
HEAVY = ("apache_beam", "pyarrow", "numpy", "pandas", "duckdb", "tensorflow", "google.cloud", "grpc")


@pytest.fixture(scope="module")
def script(tmp_path_factory) -> pathlib.Path:
    """The command as pip installs it, under its name."""
    path = tmp_path_factory.mktemp("bin") / "penstock"
    path.write_text(SCRIPT)
    return path


@pytest.fixture
def spell(script):
    """A command line in each spelling."""

    def spelled(job="", *flags):
        words = [*filter(None, [job]), *map(str, flags)]
        return {
            "penstock": [sys.executable, str(script), *words],
            "python -m penstock": [sys.executable, "-m", "penstock", *words],
            "python -m pipelines": [sys.executable, "-m", f"pipelines.{job}".rstrip("."), *words[1:]],
        }

    return spelled


def run(command, **options) -> subprocess.CompletedProcess[str]:
    environment = _environment() | options.pop("env", {})
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run(command, text=True, check=False, env=environment, **pipes)


def _environment() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != "PENSTOCK_KERNEL"}
    return inherited | {"PYTHONPATH": str(SOURCES), "COLUMNS": "80"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a little of everything, to work in."""
    (tmp_path / "data").mkdir()
    write_csv(tmp_path / "data" / "a.csv", [{"a": row, "b": f"x{row}"} for row in range(20)], "ab")
    write_schema_file(tmp_path / "schema.pbtxt", a="INT", b="BYTES")
    (tmp_path / "empty").mkdir()
    (tmp_path / "job.yaml").write_text("inptu: x\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


IO = ["--input=data/*.csv", "--output=out"]
LETTERS = ["--dead_letters=none/*.jsonl", "--output=out"]

# Command lines that are answered without Beam: exit code, and what is said.
ANSWERS = [
    (["prepare", "--help"], DONE, r"usage: .*prepare \[flags\] \[any Beam pipeline option\]"),
    (["fit", "--help"], DONE, r"usage: .*fit \[flags\]"),
    (["verify", "--help"], DONE, r"usage: .*verify DATASET \[flags\]"),
    (["replay", "--help"], DONE, r"usage: .*replay \[flags\]"),
    (["prepare"], WRONG_USAGE, r"prepare: error: --input is required"),
    (["prepare", "--inptu=x"], WRONG_USAGE, r"prepare: error: unknown flag --inptu; did you mean --input\?"),
    (["prepare", "--runer=x"], WRONG_USAGE, r"unknown flag --runer; did you mean --runner\?"),
    (["prepare", *IO, "--runner"], WRONG_USAGE, r"prepare: error: argument --runner: expected one argument"),
    (["prepare", *IO, "more.csv"], WRONG_USAGE, r"unexpected argument 'more.csv'; .*quote patterns"),
    (["prepare", *IO, "--größe=1"], WRONG_USAGE, r"unknown flag --größe"),
    (["prepare", *IO, "--num_shards=0"], WRONG_USAGE, r"--num_shards: must be a whole number of at least 1"),
    (["prepare", *IO, "--compression=lz4"], WRONG_USAGE, r"--compression: invalid choice: 'lz4'"),
    (["prepare", *IO, "--allowed_lateness=soon"], WRONG_USAGE, r"a duration must be a whole number"),
    (["prepare", *IO, "--window=fixed:soon"], WRONG_USAGE, r"a duration must be a whole number"),
    (["prepare", *IO, "--window=fixed:60s"], WRONG_USAGE, r"windows need num_shards: .* pass --num_shards"),
    (["prepare", *IO, "--num_shards=1", "--shard_bytes=1k"], WRONG_USAGE, r"--num_shards and --shard_bytes both set"),
    (["prepare", *IO, "--resume"], WRONG_USAGE, r"--resume goes on with a stream"),
    (["prepare", *IO, "--dry_run=True"], WRONG_USAGE, r"--dry_run=True is known to DataflowRunner"),
    (["prepare", *IO, "--also_to=kafka://a/t"], WRONG_USAGE, r"a broker must be HOST:PORT, got 'a'"),
    (["prepare", "--input=kafka://a/t", "--output=o"], WRONG_USAGE, r"a broker must be HOST:PORT, got 'a'"),
    (["prepare", *IO, "--input=kafka://a:1/t"], WRONG_USAGE, r"--input kafka://... stands alone"),
    (["prepare", "--config=none.yaml"], WRONG_USAGE, r"--config none.yaml: cannot be read: .*No such file"),
    (["prepare", "--config=gs://b/job.yaml"], WRONG_USAGE, r"--config gs://b/job.yaml: must be a file of this machine"),
    (["prepare", "--config=job.yaml"], WRONG_USAGE, r"job.yaml, line 1: unknown name inptu; did you mean input\?"),
    (["prepare", "--input=none.csv", "--output=o"], DATA_FAILED, r"no file matches none.csv; check the path"),
    (["prepare", "--input=data/*.json", "--output=o"], DATA_FAILED, r"no file matches data/\*.json; check the path"),
    (["prepare", "--input=empty", "--output=o"], DATA_FAILED, r"empty is a folder without data"),
    (["replay", "--dead_letters=data", "--output=o"], DATA_FAILED, r"data is a directory; name its files"),
    (
        ["prepare", "--input=data", "--output=data/o"],
        WRONG_USAGE,
        r"--output data/o: lies in --input data, so",
    ),
    (
        ["prepare", "--input=data/*.csv", "--output=data"],
        WRONG_USAGE,
        r"--input data/\*\.csv: lies in --output",
    ),
    (["prepare", "--input=nope://b/x", "--output=o"], WRONG_USAGE, r"no filesystem is known for nope://"),
    (["prepare", *IO, "--schema=none"], WRONG_USAGE, r"--schema none: cannot be read: .*No such file"),
    (["prepare", *IO, "--rules=none"], WRONG_USAGE, r"--rules none: cannot be read: .*No such file"),
    (["prepare", *IO, "--rolling=none"], WRONG_USAGE, r"--rolling none: cannot be read: .*; give a YAML file"),
    (["prepare", *IO, "--rules=nope://b/x"], WRONG_USAGE, r"--rules nope://b/x: no filesystem is known for nope://"),
    (["fit", *IO], WRONG_USAGE, r"fit: error: --features is required"),
    (["verify"], WRONG_USAGE, r"verify: error: DATASET is required"),
    (["verify", "--dataset=none"], WRONG_USAGE, r"--dataset none: no such folder, or it is empty"),
    (["verify", "--dataset=empty"], WRONG_USAGE, r"--dataset empty: no such folder, or it is empty"),
    (["verify", "--dataset=job.yaml"], WRONG_USAGE, r"--dataset job.yaml: is a file"),
    (["replay"], WRONG_USAGE, r"replay: error: --dead_letters is required"),
    (["replay", *LETTERS], DATA_FAILED, r"no file matches none/\*.jsonl"),
    (["replay", *LETTERS, "--input=x"], WRONG_USAGE, r"--input is what prepare reads"),
]

TFT_ANSWERS = [
    (
        ["prepare", *IO, "--features=none"],
        WRONG_USAGE,
        r"--features none: cannot be read: .*; give a YAML file, or a f",
    ),
    (
        ["prepare", *IO, "--transform=data"],
        WRONG_USAGE,
        r"--transform data: is not a folder with a fitted graph: .*No su",
    ),
    (["fit", *IO, "--features=none"], WRONG_USAGE, r"--features none: cannot be read"),
    (["fit", *IO, "--features=none.py:fn"], WRONG_USAGE, r"--features none.py:fn: cannot be read: .*module\.py"),
    (["prepare", *IO, "--features=nope://b/x.py"], WRONG_USAGE, r"nope://b/x.py: no filesystem is known for nope://"),
    (["fit", *IO, "--features=a:f", "--custom_config=none"], WRONG_USAGE, r"--custom_config none: cannot be read"),
    (["fit", *IO, "--features=a:f", "--custom_config={"], WRONG_USAGE, r"--custom_config: must be an object in JSON"),
    (
        ["prepare", *IO, "--features=f.yaml", "--custom_config={}"],
        WRONG_USAGE,
        r"--custom_config is for a function that --features names, and f.yaml is a YAML file",
    ),
    (["prepare", *IO, "--custom_config={}"], WRONG_USAGE, r"--custom_config is for a function .*, and there are none"),
]


def ids(answers):
    return [" ".join(words) for words, *_ in answers]


_ANSWERING = f"""
import atexit, contextlib, io, json, os, sys
started = set(sys.modules)  # site-packages may have begun with some
from penstock.__main__ import _find_pipelines, main

_find_pipelines()
from pipelines import _main

with contextlib.redirect_stderr(io.StringIO()):
    _main.main(["prepare", "--input=none.csv", "--output=out"])  # imports what most answers need

def heavy():
    print(json.dumps([name for name in {HEAVY!r} if name in sys.modules.keys() - started]), file=sys.stderr)

for line in sys.stdin:
    folder, said, *words = json.loads(line)
    if child := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    os.chdir(folder)
    for stream in (1, 2):
        os.dup2(os.open(f"{{said}}{{stream}}", os.O_WRONLY | os.O_CREAT), stream)
    atexit.register(heavy)
    sys.argv[1:] = words
    sys.exit(main())
"""


@pytest.fixture(scope="module")
def answering():
    """A process that has given an answer, and gives each of the next ones in a copy of itself."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", _ANSWERING], text=True, env=_environment(), **pipes) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def answered_lightly(answering, tmp_path_factory):
    """Runs a command line, and finds out what was imported for it."""
    said = tmp_path_factory.mktemp("said") / "stream"

    def answer(words, code, message):
        print(json.dumps([os.getcwd(), str(said), *words]), file=answering.stdin, flush=True)
        returned = int(answering.stdout.readline())
        out, err = (pathlib.Path(f"{said}{stream}").read_text() for stream in (1, 2))
        *lines, heavy = (out + err).splitlines()
        assert returned == code, err
        assert re.search(message, "\n".join(lines)), lines
        assert json.loads(heavy) == []

    return answer


@pytest.mark.parametrize(("words", "code", "message"), ANSWERS, ids=ids(ANSWERS))
def test_an_answer_that_needs_no_beam_imports_none(folder, answered_lightly, words, code, message):
    answered_lightly(words, code, message)


@pytest.mark.parametrize(("words", "code", "message"), TFT_ANSWERS, ids=ids(TFT_ANSWERS))
def test_features_that_are_not_there_are_told_without_beam(folder, answered_lightly, words, code, message):
    pytest.importorskip("tensorflow_transform")
    answered_lightly(words, code, message)


OWN_ANSWERS = [
    (["--help"], DONE, r"prepare +Turns raw files or topics into a dataset of checked shards\.\n"),
    (["--version"], DONE, r"^penstock \d+\.\d+\.\d+ \(Apache Beam 2\.\d+\.\d+, Arrow \d+\.\d+\.\d+, .*kernel: "),
    ([], WRONG_USAGE, r"usage: penstock JOB \[flags\]"),
    (
        ["nosuch"],
        WRONG_USAGE,
        r"penstock: error: unknown job 'nosuch'; the jobs are prepare, profile, check, compare, fit, export, relax, "
        r"show, verify, status, history, replay, spans, log, diff, drop-span, retain, compact, trace, croissant",
    ),
    (["verfy"], WRONG_USAGE, r"penstock: error: unknown job 'verfy'; did you mean verify\?\nTry --help for the jobs\."),
    (["Prepare"], WRONG_USAGE, r"unknown job 'Prepare'; did you mean prepare\?"),
    (["größe"], WRONG_USAGE, r"unknown job 'größe'"),
    (["--vresion"], WRONG_USAGE, r"penstock: error: unrecognized arguments: --vresion"),
    (["completion"], WRONG_USAGE, r"completion: error: the following arguments are required: shell"),
    (["completion", "nosh"], WRONG_USAGE, r"invalid choice: 'nosh'"),
    (["completion", "bash"], DONE, r"complete .* penstock"),
]


@pytest.mark.parametrize(("words", "code", "message"), OWN_ANSWERS, ids=ids(OWN_ANSWERS))
def test_an_answer_of_the_command_itself(folder, answered_lightly, words, code, message):
    answered_lightly(words, code, message)


def without(program, text):
    """What is said, but for the name that was typed: at the start of a line; examples have a name of their own."""
    return re.sub(rf"^(usage: )?{re.escape(program)}\b", r"\1PROGRAM", text, flags=re.MULTILINE)


SPELLED = [ANSWERS[0], ANSWERS[5], ANSWERS[15], ANSWERS[24], ANSWERS[-4]]


@pytest.mark.parametrize(("words", "code", "message"), SPELLED, ids=ids(SPELLED))
def test_every_spelling_says_the_same(folder, spell, words, code, message):
    found = set()
    for spelling, command in spell(*words).items():
        program = f"{spelling}{'.' if spelling.endswith('pipelines') else ' '}{words[0]}"
        done = run(command)
        said = done.stdout + done.stderr
        assert re.search(message, said)
        assert without(program, said) != said, "a user is told what he typed"
        found.add((done.returncode, without(program, done.stdout), without(program, done.stderr)))
    assert len(found) == 1, found
    assert next(iter(found))[0] == code


@pytest.mark.slow
def test_every_spelling_does_the_same(folder, spell):
    """A dataset and its verification: the bytes, the exit codes, and what is printed, but for times."""
    prepared, verified = set(), set()
    for number, spelling in enumerate(spell()):
        flags = ["--input=data/*.csv", "--schema=schema.pbtxt", "--num_shards=2", f"--output=out{number}"]
        done = run(spell("prepare", *flags)[spelling])
        shards = [path.read_bytes() for path in sorted(pathlib.Path(f"out{number}").glob("train/*"))]
        summary = re.sub(r"[\d.,]+ s, [\d.,]+ rows/s", "TIMES", done.stdout)
        texts = [text.replace(f"out{number}", "OUT") for text in (summary, done.stderr)]
        prepared.add((done.returncode, *texts, *shards))
    for spelling in ("penstock", "python -m pipelines"):
        done = run(spell("verify", "--dataset=out0", "--json")[spelling])
        verified.add((done.returncode, done.stderr, re.sub(r'"seconds": [\d.]+', '"seconds": 0', done.stdout)))
    assert (len(prepared), len(verified)) == (1, 1), (prepared, verified)
    ((code, summary, first, *shards),) = prepared
    assert (code, len(shards)) == (DONE, 2)
    assert first == f"penstock {penstock.__version__}: prepare data/*.csv -> OUT\n"
    assert "penstock verify --dataset OUT" in summary
    ((code, silent, as_json),) = verified
    assert (code, silent, json.loads(as_json)["good"]) == (DONE, "", True)


TRAP = "raise SystemExit('a file of the user was imported')\n"


class TestWhatLiesInTheFolder:
    """A project has files and folders with names like ours; PYTHONPATH may lead there too."""

    @pytest.fixture(params=["package", "plain_folder", "modules"])
    def project(self, folder, request):
        if request.param == "modules":
            traps = [f"{name}.py" for name in ("pipelines", "prepare", "_cli", "_main", "io", "transforms")]
        else:
            traps = ["pipelines/prepare.py", "pipelines/_main.py"]
            traps += ["pipelines/__init__.py"] if request.param == "package" else []
        for trap in traps:
            (folder / trap).parent.mkdir(exist_ok=True)
            (folder / trap).write_text(TRAP)
        return folder

    @pytest.mark.parametrize("path", [[], ["."]], ids=["as_it_is", "on_the_path"])
    @pytest.mark.parametrize("spelling", ["penstock", "python -m penstock"])
    def test_is_not_taken_for_ours(self, project, spell, spelling, path):
        environment = {"PYTHONPATH": os.pathsep.join([*path, str(SOURCES)])}
        done = run(spell("prepare", "--input=none.csv", "--output=out")[spelling], env=environment)
        assert (done.returncode, "no file matches none.csv" in done.stderr) == (DATA_FAILED, True), done

    @pytest.mark.parametrize("spelling", ["penstock", pytest.param("python -m penstock", marks=pytest.mark.slow)])
    def test_is_not_taken_for_what_is_installed(self, folder, spell, spelling):
        for name in ("pipelines", "yaml", "lazy_loader", "numpy", "pyarrow", "apache_beam", "duckdb", "rich"):
            (folder / f"{name}.py").write_text(TRAP)
        done = run(spell("prepare", "--input=data/*.csv", "--output=out")[spelling])
        assert done.returncode == DONE, done.stderr

    def test_hides_the_other_spelling_as_the_docs_say(self, folder, spell):
        (folder / "pipelines").mkdir()
        (folder / "pipelines" / "__init__.py").write_text("")
        done = run(spell("prepare", "--help")["python -m pipelines"])
        assert (done.returncode, "No module named pipelines.prepare" in done.stderr) == (1, True)


FUNCTION = "def preprocessing_fn(inputs):\n    from beside import scaled\n\n    return {'a': scaled(inputs['a'])}\n"
BESIDE = "def scaled(column):\n    import tensorflow_transform as tft\n\n    return tft.scale_to_0_1(column)\n"


@pytest.fixture
def function(folder):
    """A function of the user's, which imports another module beside it when it is called."""
    pytest.importorskip("tensorflow_transform")
    (folder / "mine.py").write_text(FUNCTION)
    (folder / "beside.py").write_text(BESIDE)
    schema = "INT presence { min_fraction: 1 min_count: 1 } value_count { min: 1 max: 1 }"
    write_schema_file(folder / "schema.pbtxt", a=schema, b="BYTES")
    return ["--input=data/*.csv", "--schema=schema.pbtxt", "--features=mine:preprocessing_fn"]


@pytest.mark.parametrize(
    "spelling",
    [
        # By workers too, in the test below.
        pytest.param("penstock", marks=pytest.mark.soak),
        pytest.param("python -m penstock", marks=pytest.mark.slow),
        pytest.param("python -m pipelines", marks=pytest.mark.soak),
    ],
)
def test_a_function_in_the_working_directory_is_found(function, spell, spelling):
    done = run(spell("prepare", *function, "--output=out", "--dry_run")[spelling])
    assert done.returncode == DONE, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("spelling", ["penstock", "python -m pipelines"])
def test_a_function_is_found_by_workers_in_other_processes(function, spell, spelling):
    flags = ["--direct_running_mode=multi_processing", "--direct_num_workers=2", "--output=out"]
    done = run(spell("prepare", *function, *flags)[spelling])
    assert done.returncode == DONE, done.stderr
    assert pathlib.Path("out/transform").exists()


class TestStart:
    def test_the_first_line_comes_before_beam(self, folder, script):
        program = "import sys\nsys.modules['apache_beam'] = None\n" + SCRIPT  # an import of Beam fails
        done = run([sys.executable, "-c", program, "prepare", *IO])
        first, *_ = done.stderr.splitlines()
        assert first == f"penstock {penstock.__version__}: prepare data/*.csv -> out"
        assert "import of apache_beam halted" in done.stderr

    @pytest.mark.parametrize("flags", [["--dry_run"], ["--help"]], ids=str)
    def test_what_only_tells_tells_nothing_more(self, folder, spell, flags):
        done = run(spell("prepare", *IO, *flags)["penstock"])
        assert (done.returncode, done.stderr) == (DONE, "")

    def test_a_job_counts_from_the_start_of_its_process(self, folder, spell):
        started = time.monotonic()
        done = run(spell("prepare", *IO)["penstock"])
        taken = time.monotonic() - started
        told = float(re.search(r"Done in ([\d.]+) s", done.stdout)[1])
        assert 0.6 * taken < told <= taken + 0.1

    def test_in_a_process_that_goes_on_each_job_counts_for_itself_and_announces_nothing(self, capsys):
        before = time.monotonic()
        assert main("prepare", lambda argv: announce("prepare", "x") or DONE) == DONE
        assert before <= job_started() <= time.monotonic()
        assert capsys.readouterr().err == ""


class TestEnd:
    @pytest.mark.parametrize(
        ("words", "unbuffered", "code"),
        [
            (["--help"], "", DONE),
            (["prepare", "--help"], "", DONE),
            (["prepare", "--help"], "1", DONE),
            (["--version"], "", DONE),
            (["--version"], "1", UNREAD),
            (["completion", "bash"], "", UNREAD),
            (["prepare", *IO, "--dry_run"], "1", UNREAD),
        ],
        ids=["own_help", "help", "help_at_once", "version", "version_at_once", "long", "job"],
    )
    def test_nobody_reads_on(self, folder, spell, words, unbuffered, code):
        read, write = os.pipe()
        os.close(read)
        done = run(spell(*words)["penstock"], stdout=write, env={"PYTHONUNBUFFERED": unbuffered})
        os.close(write)
        assert (done.returncode, done.stderr) == (code, "")

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
    @pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
    @pytest.mark.parametrize(
        "words", [["--version"], ["--help"], ["prepare", *IO, "--dry_run"]], ids=["own", "help", "of_a_job"]
    )
    def test_a_full_disk_is_one_line(self, folder, spell, words, unbuffered):
        with open("/dev/full", "w") as full:
            done = run(spell(*words)["penstock"], stdout=full, env={"PYTHONUNBUFFERED": unbuffered})
        assert done.returncode == DATA_FAILED
        assert re.fullmatch(r"penstock( prepare)?: error: the output cannot be written: .*No space.*\n", done.stderr)

    @pytest.mark.parametrize("seconds", [0.1, 0.3, 0.6])
    def test_an_interrupt_while_beam_is_imported_is_one_line(self, folder, spell, seconds):
        command = spell("prepare", *IO)["penstock"]
        environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        first = process.stderr.readline()
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate()
        assert first.startswith("penstock ")
        assert (process.returncode, rest) == (
            128 + signal.SIGINT,
            "penstock prepare: error: interrupted; nothing was published\n",
        )
        assert not (folder / "out").exists()

    def test_no_job_is_named(self, spell):
        done = run(spell()["python -m pipelines"])
        assert (done.returncode, done.stdout) == (WRONG_USAGE, "")
        assert done.stderr.startswith("usage: python -m pipelines JOB [flags]\n")
        done = run([sys.executable, "-m", "pipelines", "verify"])
        assert done.stderr == "python -m pipelines verify: error: DATASET is required: the folder that a job wrote\n"


class TestVersion:
    def test_are_those_of_the_distributions(self, monkeypatch, capsys):
        monkeypatch.setattr(_main, "_version", {"apache-beam": "1.2", "pyarrow": "3.4"}.__getitem__)
        monkeypatch.setattr(compiled, "load_error", lambda: None)
        monkeypatch.delenv("PENSTOCK_KERNEL", raising=False)
        assert _main.main(["--version"]) == DONE
        python = sys.version.split()[0]
        expected = f"penstock {penstock.__version__} (Apache Beam 1.2, Arrow 3.4, Python {python}, kernel: yes)\n"
        assert capsys.readouterr().out == expected

    def test_what_is_not_installed_is_told(self):
        assert _main._version("no-such-distribution") == "not installed"

    def test_the_kernel_is_there_where_it_is_used(self, spell):
        code = "from penstock.io.kernel import native; print(native.ENABLED)"
        for switch in ("on", "off"):
            used = run([sys.executable, "-c", code], env={"PENSTOCK_KERNEL": switch}).stdout == "True\n"
            told = run(spell("--version")["penstock"], env={"PENSTOCK_KERNEL": switch}).stdout
            assert f"kernel: {'yes' if used else 'no, '}" in told
        assert "kernel: no, PENSTOCK_KERNEL=off" in told

    def test_a_kernel_that_cannot_be_loaded_is_none(self, tmp_path, monkeypatch):
        monkeypatch.setattr(compiled, "FOLDER", tmp_path)
        monkeypatch.delenv("PENSTOCK_KERNEL", raising=False)
        assert re.fullmatch(r"no, No module named 'penstock\.io\.kernel\.native\._columns'", _main._kernel())
        suffix = compiled.importlib.machinery.EXTENSION_SUFFIXES[0]
        for name in compiled.MODULES:
            (tmp_path / f"{name}{suffix}").write_bytes(b"not for this machine")
        assert re.match(r"no, .*_columns", _main._kernel())


def complete(script, words, directory) -> list[str]:
    """What bash offers for the last of some words, with the script that the command prints; one bash is enough."""
    code = (
        "source /dev/stdin\n"
        'words=("$@"); COMP_WORDS=("${words[@]}"); COMP_CWORD=$((${#words[@]} - 1))\n'
        "compopt() { :; }\n"  # only works while a key is pressed
        "_shtab_penstock\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", code, "bash", *words],
        input=script,
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return sorted(done.stdout.split())


@pytest.fixture(scope="module")
def bash(script) -> str:
    """The script for bash."""
    return run([sys.executable, str(script), "completion", "bash"]).stdout


class TestCompletion:
    @pytest.mark.parametrize(
        ("line", "offered"),
        [
            (
                ["penstock", ""],
                [
                    *("check", "compact", "compare", "completion", "croissant", "diff", "drop-span"),
                    *("export", "fit"),
                    *("history", "log", "prepare", "profile", "relax", "replay", "retain", "show", "spans"),
                    *("status", "trace", "verify"),
                ],
            ),
            (["penstock", "ver"], ["verify"]),
            (["penstock", "prepare", "--ro"], ["--rolling"]),
            (
                ["penstock", "verify", "--"],
                ["--clean", "--clean_age", "--config", "--dataset", "--help", "--json", "--report", "--verbose"],
            ),
            (
                ["penstock", "prepare", "--output_format", ""],
                ["arrayrecord", "mds", "parquet", "sequence_example", "tfrecord", "webdataset"],
            ),
            (["penstock", "prepare", "--overwrite", "--shuffle", "g"], ["global"]),
            (["penstock", "prepare", "--input", "data/"], ["data/a.csv"]),
            (["penstock", "prepare", "--schema", "sch"], ["schema.pbtxt"]),
            (["penstock", "verify", "--dataset", ""], ["data", "empty"]),
            (["penstock", "replay", "--dead_letters", "d"], ["data"]),
            (["penstock", "completion", ""], ["bash", "tcsh", "zsh"]),
        ],
        ids=lambda value: " ".join(value) if value and value[0] == "penstock" else "",
    )
    def test_offers_jobs_flags_choices_and_files(self, folder, bash, line, offered):
        assert complete(bash, line, folder) == offered

    def test_starts_no_python(self, folder, bash, monkeypatch):
        monkeypatch.setenv("PATH", "")
        code = (
            'source /dev/stdin; COMP_WORDS=(penstock prepare --compr); COMP_CWORD=2; _shtab_penstock; echo "$COMPREPLY"'
        )
        done = subprocess.run(["/bin/bash", "-c", code], input=bash, capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr) == ("--compression\n", "")

    @pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
    def test_there_is_a_script_for_each_shell(self, script, shell):
        for command in ([str(script)], ["-m", "penstock"]):
            done = run([sys.executable, *command, "completion", shell])
            assert (done.returncode, done.stderr) == (DONE, "")
            assert "python" not in done.stdout, "it completes the command, whoever made the script"
            assert all(name in done.stdout for name in (*_main.JOBS, "max_reject_fraction"))


def test_the_table_of_beams_flags_is_that_of_the_installed_beam():
    """If not: `python -m pipelines._cli.beam` writes it anew, for a new version of Beam or of our options for Flink."""
    # In a process of its own: Beam YAML, once it is imported, has flags too.
    table = "from pipelines._cli import beam; print(beam.flag_table(), end='')"
    done = subprocess.run([sys.executable, "-c", table], capture_output=True, text=True, check=True)
    assert pathlib.Path(_beam_flags.__file__).read_text() == done.stdout


def test_beams_flags_take_values_as_beam_takes_them():
    parser, known = _beam.beam_parser(), _flags._beam_parser("any")
    assert {name: action.nargs for name, action in known._option_string_actions.items()} == {
        name: parser._option_string_actions[name].nargs for name in known._option_string_actions
    }


@pytest.mark.parametrize(
    ("job", "flags", "extra"),
    [
        ("prepare", ["--input=gs://b/x.csv", "--output=out"], "gcp"),
        ("prepare", ["--input=data/*.csv", "--output=s3://b/x"], "aws"),
        ("prepare", ["--input=data/*.csv", "--output=out", "--schema=azfs://a/b/x"], "azure"),
        ("prepare", ["--input=data/*.csv", "--output=out", "--rules=gs://b/x"], "gcp"),
        ("prepare", ["--input=data/*.csv", "--output=out", "--rolling=gs://b/x"], "gcp"),
        ("prepare", ["--input=data/*.csv", "--output=out", "--also_to=kafka://a:1/t"], "kafka"),
        ("prepare", ["--input=kafka://a:1/t?stop=latest", "--output=out"], "kafka"),
        ("prepare", ["--input=data/*.csv", "--output=out", "--features=mine:fn"], "tft"),
        ("prepare", ["--input=data/*.csv", "--output=out", "--transform=graph"], "tft"),
        ("prepare", ["--input=data/*.csv", "--output=out", "--runner=DataflowRunner"], "gcp"),
        ("fit", ["--input=data/*.csv", "--output=out", "--features=mine:fn"], "tft"),
        ("verify", ["--dataset=gs://b/x"], "gcp"),
        ("replay", ["--dead_letters=s3://b/*.jsonl", "--output=out"], "aws"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_a_missing_extra_is_one_line_that_names_it(folder, monkeypatch, capsys, job, flags, extra):
    (folder / "graph" / "transformed_metadata").mkdir(parents=True)
    write_schema_file(folder / "graph" / "transformed_metadata" / "schema.pbtxt", a="INT")
    monkeypatch.setattr(extras, "_is_found", lambda _: False)
    assert main(job, _main.JOBS[job][1], flags) == WRONG_USAGE
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert (printed.out, line.endswith(f": pip install '.[{extra}]'")) == ("", True), line
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("ends", "code", "said"),
    [
        ("raise RunnerError('it is gone')", DATA_FAILED, "python -m pipelines.prepare: error: it is gone\n"),
        ("raise StorageError('it is full')", DATA_FAILED, "python -m pipelines.prepare: error: it is full\n"),
        ("return 0", DONE, ""),
    ],
)
def test_a_job_beside_its_runner_does_not_end_the_threads_of_beam(ends, code, said):
    """Python would wait for this thread; of those that wait in gRPC it may abort, and -6 were the exit code."""
    program = (
        "import atexit, sys, threading, time\n"
        "from penstock.io.errors import RunnerError, StorageError\n"
        "from pipelines._cli.command import command\n"
        "from pipelines._report.process import leave_threads\n"
        "atexit.register(print, 'an exit function')\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "def run(argv):\n"
        "    leave_threads()\n"
        f"    {ends}\n"
        "sys.exit(command('prepare', run, argv=[]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "an exit function\n", said)


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_a_job_leaves_the_cores_to_its_own_threads(folder):
    program = """
import os, sys
from pipelines._cli.command import command

def run(argv):
    assert "numpy" not in sys.modules
    import numpy
    numpy.ones((64, 4096)) @ numpy.ones((4096, 64))
    return len(os.listdir("/proc/self/task")) - 1

sys.exit(command("profile", run))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, env=os.environ, timeout=60, check=False)
    assert done.returncode == 0


def test_only_a_graph_of_tensorflow_needs_its_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(type(named.TFT), "require", lambda *_: pytest.fail("the extra is asked for"))
    with pytest.raises(ConfigError, match="is not a folder with a fitted graph"):
        named.GRAPH.find(str(tmp_path), "--transform")
    named.GRAPH.reach(str(tmp_path), "--transform")
