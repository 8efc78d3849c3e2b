"""The command `penstock`, and `python -m penstock`.

What lies in the user's folder must not stand in for what is installed: a project may well have a folder `pipelines`.
"""

import os
import sys

# Nothing else here, so that an interrupt meets `_run`, which ends in one line.


def main() -> int:
    """Runs the command."""
    return _run("penstock")


def _run(program: str) -> int:
    try:
        _find_pipelines()
        from pipelines import _main
        from pipelines._cli.command import end

        end(_main.main(program=program))
    except KeyboardInterrupt:
        print(f"{program}: error: interrupted", file=sys.stderr)
        return 130


def _find_pipelines() -> None:
    """Imports the package `pipelines` that was installed beside this one, wherever the path would find another."""
    from importlib import util

    folder = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "pipelines")
    spec = util.spec_from_file_location(
        "pipelines", os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    if "pipelines" in sys.modules or spec is None or spec.loader is None:
        return
    module = util.module_from_spec(spec)
    sys.modules["pipelines"] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the working directory, which `python -m` puts before everything else
    sys.exit(_run("python -m penstock"))
