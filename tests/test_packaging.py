"""What is shipped, that it installs as Beam's workers install it, and that the core does without TensorFlow."""

import ast
import email.message
import email.parser
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import pathlib
import pkgutil
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile

import apache_beam as beam
import packaging.requirements
import pytest
from apache_beam.runners.portability.stager import Stager

import penstock
import penstock.io
import penstock.transforms
import pipelines

ROOT = pathlib.Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FOLDERS = {"io": "penstock/io", "transforms": "penstock/transforms", "pipelines": "pipelines"}
KERNEL = {path.stem for path in (ROOT / "io" / "kernel").glob("*.pyx")}
TIPS = ROOT / "examples" / "tips" / "tips.csv"


def shipped() -> set[str]:
    """The files that belong into the wheel, by their name there, but for compiled ones."""
    modules = {
        f"{target}/{path.relative_to(ROOT / folder)}"
        for folder, target in FOLDERS.items()
        for path in (ROOT / folder).rglob("*.py*")
        if path.suffix in (".py", ".pyi")
    }
    return modules | {"penstock/__init__.py", "penstock/__main__.py", "penstock/py.typed", "pipelines/py.typed"}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> pathlib.Path:
    """Built by Beam itself, as `--setup_file ./setup.py` has it, from a copy: building writes into the sources."""
    copy, target = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("sdist")
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(ROOT / name, copy)
    for name in (*FOLDERS, "src", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*", "*.c", "*.so")
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignored)
    return pathlib.Path(Stager._build_setup_package(str(copy / "setup.py"), str(target)))


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory) -> pathlib.Path:
    """Built from the sdist, with the setuptools that is installed here."""
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "-w", str(target), str(sdist)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "eprecat" not in done.stdout + done.stderr
    return next(target.glob("*.whl"))


def test_the_sdist_holds_real_files_and_no_tests(sdist):
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    assert not [member.name for member in members if member.issym() or member.islnk()]
    prefix = f"penstock-{penstock.__version__}"
    names = {member.name.removeprefix(f"{prefix}/") for member in members if member.isfile()}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "setup.py"} <= names
    assert {name.removeprefix("src/") for name in names if name.endswith((".py", ".pyi", "py.typed"))} - {
        "setup.py"
    } == shipped()
    kernel = {pathlib.Path(name).name for name in names if name.startswith("src/penstock/io/kernel/")}
    for module in KERNEL:
        assert {f"{module}.pyx", f"{module}.c"} <= kernel, "a worker without Cython compiles the C"
    assert {path.name for pattern in ("*.h", "*.pxd") for path in (ROOT / "io" / "kernel").glob(pattern)} <= kernel
    assert not [name for name in names if name.startswith(("tests", "io/", "transforms/", "pipelines/"))]


def test_the_wheel_holds_two_packages_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert not [entry.filename for entry in archive.infolist() if entry.external_attr >> 28 == 0o12], "links"
    dist_info = f"penstock-{penstock.__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"penstock", "pipelines", dist_info}
    compiled = {name for name in names if name.endswith((".so", ".pyd"))}
    assert {name.partition(".")[0] for name in compiled} == {f"penstock/io/kernel/{module}" for module in KERNEL}
    assert {name for name in names if not name.startswith(dist_info)} - compiled == shipped()
    assert [name for name in names if name.endswith("/LICENSE")]


def test_metadata_of_the_wheel(wheel):
    metadata = _metadata(wheel)
    assert metadata["Version"] == penstock.__version__ == PROJECT["version"]
    assert metadata["License"] == "Apache-2.0"
    assert metadata["Requires-Python"] == "<3.14,>=3.11"
    assert set(metadata.get_all("Provides-Extra", [])) == {"tft", "kafka", "demo", "dev"}
    core = [text for text in metadata.get_all("Requires-Dist", []) if "extra ==" not in text]
    assert not [text for text in core if text.startswith(("tensorflow-transform", "tensorflow>", "tfx", "pandas"))]


def _metadata(wheel: pathlib.Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.parser.Parser().parsestr(archive.read(name).decode())


@pytest.mark.parametrize(
    ("without", "has_kernel"), [("", True), ("Cython", True), ("compiler", False)], ids=["all", "no_cython", "no_cc"]
)
def test_the_sdist_installs_as_on_a_worker(sdist, tmp_path, without, has_kernel):
    """Workers have the dependencies and install without build isolation."""
    python = _worker(tmp_path / "worker")
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    environment = _environment()
    if without == "Cython":
        (tmp_path / "Cython.py").write_text("raise ImportError('there is no Cython here')")
        environment["PYTHONPATH"] = str(tmp_path)
    if without == "compiler":
        environment["CC"] = "no-such-compiler"
    subprocess.run([*command, "--no-build-isolation", str(sdist)], check=True, env=environment)
    code = (
        "import penstock, penstock.io, penstock.transforms, pipelines.prepare\n"
        "from penstock.io import kernel; print(kernel.ENABLED)\n"
        "print(penstock.__file__); print(penstock.io.__file__); print(pipelines.__file__)"
    )
    done = _run([str(python), "-c", code], tmp_path)
    enabled, *paths = done.stdout.split()
    assert enabled == str(has_kernel)
    assert done.stderr.count("without its compiled kernel") == (0 if has_kernel else 1)
    assert all(path.startswith(str(tmp_path / "worker")) for path in paths), paths
    assert (
        "usage: python -m pipelines.verify" in _run([str(python), "-m", "pipelines.verify", "--help"], tmp_path).stdout
    )
    (tmp_path / "pipelines").mkdir()  # of the user's
    (tmp_path / "pipelines" / "__init__.py").write_text("raise SystemExit('a file of the user was imported')")
    for program in ([str(python.parent / "penstock")], [str(python), "-m", "penstock"]):
        assert f"kernel: {'yes' if has_kernel else 'no, '}" in _run([*program, "--version"], tmp_path).stdout
        assert "penstock verify [flags]" in _run([*program, "verify", "--help"], tmp_path).stdout


def _worker(directory: pathlib.Path) -> pathlib.Path:
    """Python of a new virtual environment that has this one's packages, but for those installed as editable."""
    venv.create(directory, symlinks=True)
    python = directory / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = pathlib.Path(_run([str(python), "-c", code], directory).stdout.strip())
    here = {path for path in sys.path if path.endswith("site-packages")}
    (packages / "dependencies.pth").write_text("\n".join(here))
    return python


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PENSTOCK_KERNEL")}


def _run(command: list[str], directory: pathlib.Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=directory, env=_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def _run_here(code: str, *arguments: object) -> list[str]:
    """Lines that a program prints, with the packages of the checkout."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


_CORE_ONLY = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""
_JOBS = """
import contextlib, io, sys
from pipelines import fit, prepare, verify
from pipelines._command import main

def code(job, *argv):
    name = job.__name__.rpartition(".")[2]
    held = io.StringIO()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(held):
            result = main(name, job.run, argv)
    except SystemExit as error:
        result = error.code
    print(name, result, *held.getvalue().splitlines())

for job in (fit, prepare, verify):
    code(job, "--help")
csv, features, output = sys.argv[1:]
code(prepare, f"--input={csv}", f"--output={output}", "--split=train=0.5,eval=0.5", "--num_shards=2")
code(verify, f"--dataset={output}")
"""
_HELP = ["fit 0", "prepare 0", "verify 0"]


@pytest.fixture
def features_file(tmp_path) -> pathlib.Path:
    path = tmp_path / "features.yaml"
    path.write_text("features:\n  tip:\n    ops: [scale_to_z_score]\n")
    return path


def test_the_core_never_imports_tensorflow(tmp_path, features_file):
    code = f"{_JOBS}\nprint([name for name in sys.modules if name.partition('.')[0] in {_HEAVY!r}])"
    printed = _run_here(code, TIPS, features_file, tmp_path / "dataset")
    assert printed == [*_HELP, "prepare 0", "verify 0", "[]"]


_HEAVY = ("tensorflow", "tensorflow_transform", "tfx_bsl", "keras")


def _not_of_the_core() -> set[str]:
    """Installed modules that `pip install penstock` does not bring, by what the distributions require."""
    core, found = set(), [packaging.requirements.Requirement(text) for text in PROJECT["dependencies"]]
    while found:
        requirement = found.pop()
        seen = {(_normal(requirement.name), extra) for extra in ("", *requirement.extras)}
        if seen <= core:
            continue
        core |= seen
        for text in importlib.metadata.requires(requirement.name) or []:
            needed = packaging.requirements.Requirement(text)
            if any(
                not needed.marker or needed.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)
            ):
                found.append(needed)
    names = {name for name, _ in core} | {"penstock", "pip", "setuptools"}
    providers = importlib.metadata.packages_distributions()
    return {module for module, found in providers.items() if not names & set(map(_normal, found))}


def test_the_core_runs_with_its_own_dependencies_only(tmp_path, features_file):
    """Without TensorFlow, without pandas, without what only tests and tools need."""
    blocked = _not_of_the_core()
    assert {"pytest"} < blocked
    assert not {"apache_beam", "pyarrow", "numpy", "google", "grpc", "penstock"} & blocked
    extra = (
        "code(prepare, f'--input={csv}', f'--features={features}', f'--output={output}-2')\n"
        "code(fit, f'--input={csv}', f'--features={features}', f'--output={output}-2')\n"
    )
    printed = _run_here(_CORE_ONLY.format(blocked=blocked) + _JOBS + extra, TIPS, features_file, tmp_path / "dataset")
    missing = "error: feature transformation needs tensorflow-transform: pip install 'penstock[tft]'"
    assert printed == [
        *_HELP,
        "prepare 0",
        "verify 0",
        f"prepare 2 python -m pipelines.prepare: {missing}",
        f"fit 2 python -m pipelines.fit: {missing}",
    ]
    assert not (tmp_path / "dataset-2").exists(), "nothing is left of a run that could not start"


@pytest.mark.parametrize("folder", ["io", "transforms"])
def test_a_folder_of_the_checkout_is_no_package(folder):
    spec = importlib.util.spec_from_file_location(folder, ROOT / folder / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.raises(ImportError, match=f"import penstock.{folder}, not the folder {folder}/ of the checkout"):
        spec.loader.exec_module(module)


def test_importing_transforms_in_the_checkout_says_what_to_import():
    done = subprocess.run(
        [sys.executable, "-c", "import transforms"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "ImportError: import penstock.transforms, not the folder transforms/" in done.stderr


def modules(package) -> list[str]:
    """All modules of a package, by name."""
    return [
        package.__name__,
        *(found.name for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")),
    ]


# Steps of WriteDataset.
_NOT_EXPORTED = ("penstock.io.shuffle", "penstock.io.stable", "penstock.io.windowed.")


def test_public_transforms_are_exported():
    for package in (penstock.io, penstock.transforms):
        for name, kind in _public_classes(package):
            if issubclass(kind, beam.PTransform) and not kind.__module__.startswith(_NOT_EXPORTED):
                assert getattr(package, name, None) is kind, f"{package.__name__} does not export {name}"


def _public_classes(package):
    for module in map(importlib.import_module, modules(package)):
        for name, kind in inspect.getmembers(module, inspect.isclass):
            if kind.__module__ == module.__name__ and not name.startswith("_"):
                yield name, kind


def test_exports_are_documented():
    for package in (penstock.io, penstock.transforms):
        for name in package.__all__:
            value = getattr(package, name)
            assert value.__module__.startswith("penstock"), f"{package.__name__}.{name} is not ours"
            assert (value.__doc__ or "").strip(), f"{package.__name__}.{name} has no docstring"


@pytest.mark.parametrize("package", ["penstock.io", "penstock.transforms"])
def test_exports_are_imported_when_they_are_used(package):
    """Once each, from the module that its stub names; until then the package is light."""
    code = (
        f"import pydoc, sys, {package} as package\n"
        "print([name for name in ('apache_beam', 'pyarrow', 'numpy') if name in sys.modules])\n"
        "print(dir(package) == sorted(package.__all__), len(package.__all__) > 15)\n"
        f"from {package} import *\n"
        "print([name for name in package.__all__ if globals()[name] is not getattr(package, name)])\n"
        "help = pydoc.plain(pydoc.render_doc(package))\n"
        "print([name for name in package.__all__ if name not in help])\n"
        "print(hasattr(package, 'NoSuchName'))"
    )
    assert _run_here(code) == ["[]", "True True", "[]", "[]", "False"]


def test_every_imported_package_is_a_declared_dependency():
    declared = {_normal(re.split(r"[\[<>=!~]", text)[0]) for text in _requirements()}
    providers = importlib.metadata.packages_distributions()
    for name in sorted(_imported()):
        assert {_normal(text) for text in providers.get(name, [name])} & declared, (
            f"{name} is imported but not declared"
        )


def _requirements() -> list[str]:
    extras = [text for extra in ("tft", "kafka") for text in PROJECT["optional-dependencies"][extra]]
    return [*PROJECT["dependencies"], *extras, "tensorflow", "tfx-bsl"]  # both of tft


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _imported() -> set[str]:
    """Top-level packages that our modules import, but for the standard library and our own; protobuf by its name."""
    names = set()
    for package in (penstock, pipelines):
        for module in modules(package):
            origin = pathlib.Path(importlib.util.find_spec(module).origin)
            if origin.suffix != ".py":
                continue
            source = origin.read_text()
            names |= {name for node in ast.walk(ast.parse(source)) for name in _names(node)}
    names = {"protobuf" if name == "google.protobuf" else name.partition(".")[0] for name in names}
    return names - set(sys.stdlib_module_names) - {"penstock", "pipelines"}


def _names(node: ast.AST) -> list[str]:
    match node:
        case ast.Import():
            return [".".join(alias.name.split(".")[:2]) for alias in node.names]
        case ast.ImportFrom(module=str(name), level=0):
            return (
                [f"google.{alias.name}" for alias in node.names]
                if name == "google"
                else [".".join(name.split(".")[:2])]
            )
        case _:
            return []
