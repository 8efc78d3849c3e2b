"""The jobs. Each one wires transforms of Penstock into a pipeline; `penstock <name> --help` explains its flags.

A job is two modules: `prepare.py` is the command, which answers everything it can without Beam, and `_jobs/prepare.py`
builds and runs the pipelines. `_options/` has the flags, which both need.
"""

import time

# Whatever the user typed, this is the first of our modules to be imported: as near to the start of the process as we
# get, without asking the operating system in a way of its own.
STARTED = time.monotonic()
