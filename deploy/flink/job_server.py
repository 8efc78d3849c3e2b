"""Builds Beam's job server for Flink or Spark as one jar, with Maven: `pom.xml` says of what, `java/` what differs.

::

    python -m deploy.flink.job_server spark
"""

import argparse
import hashlib
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from typing import Literal

POM = pathlib.Path(__file__).with_name("pom.xml")
_JAVA = POM.with_name("java")
FLINK_VERSION = "1.19"


def job_server_jar(
    folder: pathlib.Path, runner: Literal["flink", "spark"] = "flink", says: Callable[[str], None] = lambda line: None
) -> pathlib.Path:
    """The jar in a folder, built there if these sources have not been built before: about 2 minutes, 160 or 310 MB.

    `says` gets a line for the user before that.

    Raises:
      RuntimeError: when Maven is missing, or fails.
    """
    sources = [POM, *sorted(_JAVA.rglob("*.java"))]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    jar = folder / f"{runner}-job-server-{digest[:8]}.jar"
    if not jar.exists():
        says("Building the job server, once: takes about two minutes ...")
        with tempfile.TemporaryDirectory() as build:
            shutil.copytree(_JAVA, pathlib.Path(build) / "java")
            run_maven(POM, pathlib.Path(build), f"--activate-profiles={runner}", "package")
            folder.mkdir(parents=True, exist_ok=True)
            # Moved under another name first: whoever finds the jar finds it whole.
            shutil.move(pathlib.Path(build) / "target" / "job-server.jar", jar.with_suffix(".tmp"))
            jar.with_suffix(".tmp").rename(jar)
    return jar


def run_maven(pom: pathlib.Path, build: pathlib.Path, *arguments: str) -> None:
    """Runs Maven on a copy of a project file, in a folder that takes what it builds.

    Raises:
      RuntimeError: when Maven is missing, or fails.
    """
    if shutil.which("mvn") is None or shutil.which("java") is None:
        raise RuntimeError("Java 17 and Maven are needed: install them so that java and mvn are in the PATH")
    shutil.copy(pom, build / "pom.xml")
    command = ["mvn", "--batch-mode", "--quiet", f"--file={build}/pom.xml", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-3000:]}")


def main() -> None:
    """Builds a jar and prints where it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runner", choices=["flink", "spark"])
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path(".flink"), help="(default: %(default)s)")
    arguments = parser.parse_args()
    print(job_server_jar(arguments.folder, arguments.runner))


if __name__ == "__main__":
    main()
