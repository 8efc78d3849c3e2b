"""Reads files with little memory, each in a process of its own that this one forks: `python bounded.py MIB FILE...`.

Prints a JSON line for each file: its name, the rows and the dead letters that were read, the error, if there was one,
and the bytes of memory that the process took at most, above what it had before.
"""

import json
import os
import resource
import sys

from penstock.io.errors import PenstockError
from penstock.io.files.inputs import stat_file
from penstock.io.formats.registry import choose_format


def read(path: str) -> dict[str, object]:
    file, rows, letters = stat_file(path), 0, []
    reader = choose_format(None, [path]).make()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = None
    try:
        for part in reader.plan(file):
            for parsed in reader.read(file, part, None):
                rows += parsed.batch.num_rows
                letters += [letter.reasons[0].code for letter in parsed.rejected]
    except (PenstockError, MemoryError) as found:
        error = f"{type(found).__name__}: {found}"
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    return {"path": path, "rows": rows, "letters": letters, "error": error, "bytes": peak}


def read_in_a_child(path: str, mebibytes: int) -> None:
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        if status:
            print(json.dumps({"path": path, "error": f"died: {status}"}), flush=True)
        return
    with open("/proc/self/statm") as statm:
        now = int(statm.read().split()[0]) * resource.getpagesize()
    limit = now + (mebibytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    print(json.dumps(read(path)), flush=True)
    os._exit(0)


if __name__ == "__main__":
    for name in sys.argv[2:]:
        choose_format(None, [name]).load()  # before the fork, so that the children need not
        read_in_a_child(name, int(sys.argv[1]))
