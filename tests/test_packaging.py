"""What is exported and declared, and that the core does without TensorFlow; `packaging/` builds and installs."""

import ast
import importlib
import importlib.metadata
import importlib.util
import inspect
import pathlib
import pkgutil
import re
import subprocess
import sys
import tomllib

import apache_beam as beam
import packaging.requirements
import pytest
from helpers import APART

import penstock
import penstock.io
import penstock.transforms
import pipelines

ROOT = pathlib.Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TIPS = ROOT / "examples" / "tips" / "tips.csv"


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
from pipelines._cli.command import main

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


# What could need TensorFlow and does not: modules that fit and apply graphs, features by their columns, tf.Examples.
_PARTS = """
import penstock.transforms.features.apply, penstock.transforms.features.fit
from penstock.io.kernel.pure.decode import _message_class
from penstock.io.schema import Feature, Kind
from penstock.transforms.features.functions import parse_features
parse_features("features: {a: {ops: [scale_to_z_score]}}").bind([Feature("a", Kind.INT, multivalued=False)])
_message_class(False).FromString(b"")
"""


def test_the_core_never_imports_tensorflow(tmp_path, features_file):
    code = f"{_JOBS}{_PARTS}print([name for name in sys.modules if name.partition('.')[0] in {_HEAVY!r}])"
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
        "code(fit, f'--input={csv}', f'--features={features}', f'--output={output}-fitted')\n"
        "code(prepare, f'--input={csv}', f'--transform={output}-fitted', f'--output={output}-1')\n"
        "tft = (f'--features={features}', '--features_engine=tft', f'--output={output}-2')\n"
        "code(prepare, f'--input={csv}', *tft)\n"
        "code(fit, f'--input={csv}', *tft)\n"
    )
    printed = _run_here(_CORE_ONLY.format(blocked=blocked) + _JOBS + extra, TIPS, features_file, tmp_path / "dataset")
    missing = "error: feature transformation needs tensorflow-transform: pip install '.[tft]'"
    assert printed == [
        *_HELP,
        "prepare 0",
        "verify 0",
        "fit 0",
        "prepare 0",
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


# Steps of other transforms.
_NOT_EXPORTED = (
    "penstock.io.dataset.shuffle",
    "penstock.io.beam.",
    "penstock.io.dataset.windowed.",
    "penstock.transforms.beam_yaml.",
    "penstock.transforms.splits.balance",
    "penstock.transforms.features.arrow.",
)


def test_public_transforms_are_exported():
    for package in (penstock.io, penstock.transforms):
        for name, kind in _public_classes(package):
            if issubclass(kind, beam.PTransform) and not kind.__module__.startswith(_NOT_EXPORTED):
                assert getattr(package, name, None) is kind, f"{package.__name__} does not export {name}"


def _public_classes(package):
    for module in map(importlib.import_module, set(modules(package)) - APART):
        for name, kind in inspect.getmembers(module, inspect.isclass):
            if kind.__module__ == module.__name__ and not name.startswith("_"):
                yield name, kind


def test_exports_are_documented():
    for package in (penstock.io, penstock.transforms):
        for name in package.__all__:
            value = getattr(package, name)
            assert value.__module__.startswith("penstock"), f"{package.__name__}.{name} is not ours"
            assert (value.__doc__ or "").strip(), f"{package.__name__}.{name} has no docstring"


def test_exports_are_imported_when_they_are_used():
    """Once each, from the module that its stub names; until then the packages are light."""
    packages = ("penstock.io", "penstock.transforms")
    code = (
        f"import pydoc, sys, {', '.join(packages)}\n"
        "print([name for name in ('apache_beam', 'pyarrow', 'numpy') if name in sys.modules])\n"
    )
    for package in packages:
        code += (
            f"package = {package}\n"
            "print(dir(package) == sorted(package.__all__), len(package.__all__) > 15)\n"
            f"from {package} import *\n"
            "print([name for name in package.__all__ if globals()[name] is not getattr(package, name)])\n"
            "help = pydoc.plain(pydoc.render_doc(package))\n"
            "print([name for name in package.__all__ if name not in help])\n"
            "print(hasattr(package, 'NoSuchName'))\n"
        )
    assert _run_here(code) == ["[]", *["True True", "[]", "[]", "False"] * len(packages)]


def test_every_imported_package_is_a_declared_dependency():
    declared = {_normal(re.split(r"[\[<>=!~]", text)[0]) for text in _requirements()}
    providers = importlib.metadata.packages_distributions()
    for name in sorted(_imported()):
        assert {_normal(text) for text in providers.get(name, [name])} & declared, (
            f"{name} is imported but not declared"
        )


def _requirements() -> list[str]:
    extras = [
        text
        for extra in ("arrayrecord", "aws", "azure", "gcp", "kafka", "metrics", "tft", "torch")
        for text in PROJECT["optional-dependencies"][extra]
    ]
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
