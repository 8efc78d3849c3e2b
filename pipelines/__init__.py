"""The jobs: each wires transforms of Penstock into a pipeline, `penstock <name> --help`.

A job is two modules: `prepare.py` is the command, which answers without Beam whatever can be answered without it, and
`_prepare.py` builds and runs the pipelines.
"""

import time

# Whatever the user typed, this is the first of our modules to be imported: as near to the start of the process as we
# get, without asking the operating system in a way of its own.
STARTED = time.monotonic()
