"""Runs a program, and writes what it reads of datasets to a file: for each batch its rows, and a digest of them.

python record.py RECORD PROGRAM ARGUMENT...
"""

import hashlib
import pathlib
import runpy
import sys

from penstock.io.dataset.load.arrays import ToArrays


def main() -> None:
    record, program = sys.argv[1:3]
    sys.argv = sys.argv[2:]
    sys.path[0] = str(pathlib.Path(program).parent)
    parts = ToArrays.parts

    def recorded(rule, columns):
        part = parts(rule, columns)

        def taken(first, count):
            if count:  # others only tell the types
                digest = hashlib.sha256(repr(columns.slice(first, count).to_pydict()).encode()).hexdigest()
                with open(record, "a") as file:
                    file.write(f"{count} {digest}\n")
            return part(first, count)

        return taken

    ToArrays.parts = recorded
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()
