"""What is shipped, and that it installs as Beam's workers install it."""

import email.message
import email.parser
import pathlib
import sys
import tarfile
import tomllib
import venv
import zipfile

import pytest
from builds import FOLDERS, QUICK_BUILD, ROOT, run

import penstock

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
KERNEL = {path.stem for path in (ROOT / "io" / "kernel" / "native").glob("*.pyx")}

pytestmark = pytest.mark.packaging


def shipped() -> set[str]:
    """The files that belong into the wheel, by their name there, but for compiled ones."""
    modules = {
        f"{target}/{path.relative_to(ROOT / folder)}"
        for folder, target in FOLDERS.items()
        for path in (ROOT / folder).rglob("*.py*")
        if path.suffix in (".py", ".pyi")
    }
    own = {f"penstock/{path.name}" for path in (ROOT / "src" / "penstock").glob("*.py")}
    data = {"penstock/py.typed", "pipelines/py.typed", "penstock/transforms/beam_yaml/providers.yaml"}
    data |= {f"penstock/{path.relative_to(ROOT)}" for path in (ROOT / "transforms/report/assets").iterdir()}
    return modules | own | data


def test_the_sdist_holds_real_files_and_no_tests(sdist):
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    assert not [member.name for member in members if member.issym() or member.islnk()]
    prefix = f"penstock-{penstock.__version__}"
    names = {member.name.removeprefix(f"{prefix}/") for member in members if member.isfile()}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "setup.py"} <= names
    assert {
        name.removeprefix("src/")
        for name in names
        if name.endswith((".py", ".pyi", "py.typed", "providers.yaml")) or "/transforms/report/assets/" in name
    } - {"setup.py"} == shipped()
    kernel = {pathlib.Path(name).name for name in names if name.startswith("src/penstock/io/kernel/native/")}
    for module in KERNEL:
        assert {f"{module}.pyx", f"{module}.c"} <= kernel, "a worker without Cython compiles the C"
    assert {
        path.name for pattern in ("*.h", "*.pxd") for path in (ROOT / "io" / "kernel" / "native").rglob(pattern)
    } <= kernel
    assert not [name for name in names if name.startswith(("tests", "io/", "transforms/", "pipelines/"))]


def test_the_wheel_holds_two_packages_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert not [entry.filename for entry in archive.infolist() if entry.external_attr >> 28 == 0o12], "links"
    dist_info = f"penstock-{penstock.__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"penstock", "pipelines", dist_info}
    compiled = {name for name in names if name.endswith((".so", ".pyd"))}
    assert {name.partition(".")[0] for name in compiled} == {f"penstock/io/kernel/native/{module}" for module in KERNEL}
    assert {name for name in names if not name.startswith(dist_info)} - compiled == shipped()
    assert [name for name in names if name.endswith("/LICENSE")]


def test_metadata_of_the_wheel(wheel):
    metadata = _metadata(wheel)
    assert metadata["Version"] == penstock.__version__ == PROJECT["version"]
    assert metadata["License"] == "Apache-2.0"
    assert metadata["Requires-Python"] == "<3.14,>=3.11"
    assert set(metadata.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])
    core = [text for text in metadata.get_all("Requires-Dist", []) if "extra ==" not in text]
    assert not [text for text in core if text.startswith(("tensorflow-transform", "tensorflow>", "tfx", "pandas"))]


def _metadata(wheel: pathlib.Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.parser.Parser().parsestr(archive.read(name).decode())


# With Cython and a compiler, what pip would make of the sdist is the wheel.
@pytest.mark.parametrize(
    ("artifact", "without", "has_kernel"),
    [("wheel", "", True), ("sdist", "Cython", True), ("sdist", "compiler", False)],
    ids=["wheel", "no_cython", "no_cc"],
)
def test_it_installs_as_on_a_worker(artifact, without, has_kernel, tmp_path, request):
    """Workers have the dependencies and install without build isolation."""
    python = _worker(tmp_path / "worker")
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    variables = dict(QUICK_BUILD)
    if without == "Cython":
        (tmp_path / "Cython.py").write_text("raise ImportError('there is no Cython here')")
        variables["PYTHONPATH"] = str(tmp_path)
    if without == "compiler":
        variables["CC"] = "no-such-compiler"
    run(*command, "--no-build-isolation", request.getfixturevalue(artifact), **variables)
    code = (
        "import penstock, penstock.io, penstock.transforms, pipelines.prepare\n"
        "from penstock.io.kernel import native; print(native.ENABLED)\n"
        "print(penstock.__file__); print(penstock.io.__file__); print(pipelines.__file__)"
    )
    done = run(python, "-c", code, cwd=tmp_path)
    enabled, *paths = done.stdout.split()
    assert enabled == str(has_kernel)
    assert done.stderr.count("without its compiled kernel") == (0 if has_kernel else 1)
    assert all(path.startswith(str(tmp_path / "worker")) for path in paths), paths
    help_text = run(python, "-m", "pipelines.verify", "--help", cwd=tmp_path).stdout
    assert "usage: python -m pipelines.verify" in help_text
    (tmp_path / "pipelines").mkdir()  # of the user's
    (tmp_path / "pipelines" / "__init__.py").write_text("raise SystemExit('a file of the user was imported')")
    for program in ([python.parent / "penstock"], [python, "-m", "penstock"]):
        assert f"kernel: {'yes' if has_kernel else 'no, '}" in run(*program, "--version", cwd=tmp_path).stdout
        assert "penstock verify DATASET [flags]" in run(*program, "verify", "--help", cwd=tmp_path).stdout


def _worker(directory: pathlib.Path) -> pathlib.Path:
    """Python of a new virtual variables that has this one's packages, but for those installed as editable."""
    venv.create(directory, symlinks=True)
    python = directory / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = pathlib.Path(run(python, "-c", code, cwd=directory).stdout.strip())
    here = {path for path in sys.path if path.endswith("site-packages")}
    (packages / "dependencies.pth").write_text("\n".join(here))
    return python
