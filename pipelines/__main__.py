"""`python -m pipelines JOB` is `penstock JOB`."""

import sys

from pipelines._main import main

if __name__ == "__main__":
    sys.exit(main(program="python -m pipelines"))
