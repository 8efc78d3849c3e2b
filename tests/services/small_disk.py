"""A disk that a test fills: a filesystem of some MB in memory, mounted on a folder."""

import contextlib
import errno
import os
import pathlib
import subprocess
from collections.abc import Iterator

_BALLAST_BYTES = 1 << 16


class SmallDisk:
    """A folder that is a disk of its own; what fills it lies beside what others write there."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, left: int) -> None:
        """Takes all space but for some bytes, and again what others give free meanwhile."""
        with self._ballast.open("ab", buffering=0) as file:
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"\0" * _BALLAST_BYTES)
            self._write_pages(file.fileno())
            file.truncate(max(0, file.seek(0, os.SEEK_END) - left))

    @staticmethod
    def _write_pages(descriptor: int) -> None:
        try:
            while True:
                os.write(descriptor, b"\0" * 4096)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise

    def clear(self) -> None:
        """Gives the space back."""
        self._ballast.unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(folder: pathlib.Path, megabytes: int = 512) -> Iterator[SmallDisk]:
    """A disk of so many MB on a new folder, for as long as the block lasts.

    Raises:
      PermissionError: when this user may not mount anything.
    """
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "penstock-test", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PermissionError(f"a disk of {megabytes} MB cannot be mounted: {done.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        # Lazily: a process that was killed may still be ending with files open there.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
