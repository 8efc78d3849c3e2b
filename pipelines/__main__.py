"""`python -m pipelines JOB` is `penstock JOB`."""

from pipelines._cli.command import end
from pipelines._main import main

if __name__ == "__main__":
    end(main(program="python -m pipelines"))
