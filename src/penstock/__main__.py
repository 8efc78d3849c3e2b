"""The command `penstock`, and `python -m penstock`.

What lies in the user's folder must not stand in for what is installed: a project may well have a folder `pipelines`.
"""

import importlib.util
import os
import pathlib
import sys


def main() -> int:
    """Runs the command."""
    return _run("penstock")


def _run(program: str) -> int:
    try:
        _find_pipelines()
        from pipelines import _cli

        return _cli.main(program=program)
    except KeyboardInterrupt:
        print(f"{program}: error: interrupted", file=sys.stderr)
        return 130


def _find_pipelines() -> None:
    """Imports the package `pipelines` that was installed beside this one, wherever the path would find another."""
    folder = pathlib.Path(__file__).parent.parent / "pipelines"
    spec = importlib.util.spec_from_file_location(
        "pipelines", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if "pipelines" in sys.modules or spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules["pipelines"] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    # `python -m` puts the working directory before everything else.
    if not sys.flags.safe_path and sys.path[0] in ("", os.getcwd()):
        del sys.path[0]
    sys.exit(_run("python -m penstock"))
