"""Tries the newest versions that pyproject.toml allows, and names the package that breaks something.

::

    make newest

What is locked was tested together; what a newcomer's `pip install` resolves to next week was not. So this resolves the
newest of everything. Where that is the lock, `make demo` and `make test` run with it already: there is nothing to try.
Where it is not, this makes an environment of its own, says how it differs from the lock, and runs the demo, a job from
each format, and the tests of what a dependency changes most easily. When one of them fails, it goes back to the locked
version of half the packages, then of half of those, until it knows which one did it. The mend is a fix or a bound.
"""

import argparse
import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence

ROOT = pathlib.Path(__file__).parent.parent
LOCK = ROOT / "requirements" / "lock.txt"

_PINNED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+)(?: ; (?P<marker>[^\\]+?))?(?: \\)?$", re.MULTILINE)
RULE_TESTS = ("tests/transforms/checks/test_rules.py", "tests/transforms/checks/sql")
TESTS = (
    *("tests/test_requirements.py", "tests/test_packaging.py", "tests/io/columns/test_hashing.py"),
    *("tests/io/test_schema.py", "tests/io/columns/test_conform.py", "tests/io/columns/test_grammar.py"),
    *RULE_TESTS,
)


@dataclasses.dataclass(frozen=True)
class Change:
    """A package that is not the locked one."""

    package: str
    locked: str
    newest: str


@dataclasses.dataclass(frozen=True)
class Check:
    """Commands that must all succeed, one after the other."""

    name: str
    commands: tuple[tuple[str, ...], ...]

    def passes(self) -> bool:
        """Runs the commands, which print what they have to say."""
        return all(subprocess.run(command, cwd=ROOT, check=False).returncode == 0 for command in self.commands)


def locked_versions(lock: str) -> dict[str, str]:
    """Package to version of a lock, for this Python and this machine.

    >>> locked_versions("a-b==1.0 \\\\\\n    --hash=sha256:0\\nc==2 ; python_version < '3' \\\\\\n")
    {'a-b': '1.0'}
    """
    from packaging.markers import Marker

    return {
        _normal(found["name"]): found["version"]
        for found in _PINNED.finditer(lock)
        if not found["marker"] or Marker(found["marker"]).evaluate()
    }


def _normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def changes(locked: Mapping[str, str], newest: Mapping[str, str]) -> list[Change]:
    """What differs between two environments; what only one of them has is no difference of a version.

    >>> changes({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "4"})
    [Change(package='b', locked='2', newest='4')]
    """
    return [
        Change(name, locked[name], newest[name])
        for name in sorted(locked)
        if newest.get(name, locked[name]) != locked[name]
    ]


def find_culprit(changed: Sequence[Change], passes_without: Callable[[Sequence[Change]], bool]) -> Change | None:
    """The package whose newest version makes something fail.

    Args:
      changed: all that differs; with all of it, the check fails.
      passes_without: whether the check passes when these packages have their locked versions and the others the newest.

    Returns:
      The change between passing and failing; None when the check fails with the locked versions too.
    """
    fails, passes = 0, len(changed)  # with so many of the first packages locked
    if not changed or not passes_without(changed):
        return None
    while passes - fails > 1:
        middle = (fails + passes) // 2
        if passes_without(changed[:middle]):
            passes = middle
        else:
            fails = middle
    return changed[passes - 1]


def pinned(text: str) -> dict[str, str]:
    """Package to version, of lines such as `name==version`; other lines say nothing of versions.

    >>> pinned("A_b==1.0\\n-e .\\n")
    {'a-b': '1.0'}
    """
    pairs = (line.split("==") for line in text.splitlines() if "==" in line)
    return {_normal(name): version for name, version in pairs}


def resolved() -> dict[str, str]:
    """Package to version of the newest of everything that pyproject.toml allows, for this Python and this machine.

    Raises:
      subprocess.CalledProcessError: when there is no such set; uv has then said which packages disagree.
    """
    where = ("--python", sys.executable, "--extra", "dev", "pyproject.toml")
    return pinned(_uv("pip", "compile", "--quiet", "--no-header", "--no-annotate", "--upgrade", *where, capture=True))


@dataclasses.dataclass(frozen=True)
class Environment:
    """A virtual environment that packages are moved in."""

    directory: pathlib.Path

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(self.directory / "bin" / "python")

    def create(self) -> None:
        """Makes it anew, with the newest of everything that pyproject.toml allows.

        Raises:
          subprocess.CalledProcessError: when there is no such set; uv has then said which packages disagree.
        """
        _uv("venv", "--quiet", "--clear", "--python", sys.executable, str(self.directory))
        _uv("pip", "install", "--quiet", "--upgrade", "--python", self.python, "--editable", ".[dev]")

    def versions(self) -> dict[str, str]:
        """Package to version of all that is installed."""
        return pinned(_uv("pip", "freeze", "--python", self.python, "--exclude-editable", capture=True))

    def install(self, pins: Sequence[str]) -> None:
        """Moves packages to exact versions, whatever others say."""
        if pins:
            _uv("pip", "install", "--quiet", "--no-deps", "--python", self.python, *pins)


def _uv(*arguments: str, capture: bool = False) -> str:
    uv = pathlib.Path(sys.executable).with_name("uv")  # locked, as all that `make install` brings
    done = subprocess.run(
        [str(uv), *arguments], cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE if capture else None
    )
    return done.stdout or ""


def checks(python: str, scratch: pathlib.Path) -> tuple[Check, ...]:
    """What must work: the demo, a job from each format, and the tests of rules, types, hashing and packaging."""
    flights, dataset = str(scratch / "flights.csv"), str(scratch / "dataset")
    job = ("--config", "examples/flights/job.yaml", "--input", flights, "--output", dataset, "--overwrite")
    return (
        Check(
            "the demo",
            (
                (python, "examples/flights/fetch.py", "--output", flights, "--rows", "40000"),
                (python, "-m", "pipelines.prepare", *job),
                (python, "-m", "pipelines.verify", "--dataset", dataset),
            ),
        ),
        Check("a job from each format", ((python, "tests/packaging/smoke.py"),)),
        Check("rules, types, hashing, packaging", ((python, "-m", "pytest", "-q", *TESTS),)),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0 when all checks pass with the newest versions, or when those are the locked ones; 1 when one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venv", default=".venv-newest", metavar="DIR", help="(default: %(default)s)")
    environment = Environment(ROOT / parser.parse_args(argv).venv)
    locked = locked_versions(LOCK.read_text())
    try:
        if resolved() == locked:
            print(f"{_table([])}, all of them, with which make demo and make test run: nothing to try", flush=True)
            return 0
        environment.create()
    except subprocess.CalledProcessError:
        print(
            "newest: the bounds of pyproject.toml allow no set of packages, or one of them does not install; see above"
        )
        return 1
    changed = changes(locked, environment.versions())
    print(_table(changed), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        failed = [check for check in checks(environment.python, pathlib.Path(scratch)) if not _passes(check)]
        for check in failed:
            print(f"newest: {check.name} failed; looking for the package that did it", flush=True)
            print(_verdict(check, find_culprit(changed, _mover(environment, changed, check))), flush=True)
    return 1 if failed else 0


def _passes(check: Check) -> bool:
    print(f"newest: {check.name}", flush=True)
    return check.passes()


def _mover(environment: Environment, changed: Sequence[Change], check: Check) -> Callable[[Sequence[Change]], bool]:
    def passes_without(locked: Sequence[Change]) -> bool:
        environment.install(
            [f"{change.package}=={change.locked if change in locked else change.newest}" for change in changed]
        )
        return check.passes()

    return passes_without


def _table(changed: Sequence[Change]) -> str:
    if not changed:
        return "newest: the lock holds the newest versions"
    lines = [f"  {change.package} {change.locked} -> {change.newest}" for change in changed]
    return "\n".join([f"newest: {len(changed)} packages are newer than in the lock:", *lines])


def _verdict(check: Check, culprit: Change | None) -> str:
    if culprit is None:
        return f"newest: {check.name} fails with the locked versions too: no package of the lock did it"
    return (
        f"newest: {check.name} fails with {culprit.package} {culprit.newest} and passes with {culprit.locked}: "
        f"mend it, or bound {culprit.package} in pyproject.toml, then make lock"
    )


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
