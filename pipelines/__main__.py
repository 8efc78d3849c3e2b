"""`python -m pipelines JOB` is `penstock JOB`."""

import sys

from pipelines._cli import main

if __name__ == "__main__":
    sys.exit(main(program="python -m pipelines"))
