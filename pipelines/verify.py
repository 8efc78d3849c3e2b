"""Verifies a dataset: reads every shard again and holds it against the manifest and the schema.

::

    penstock verify --dataset out
    penstock verify --dataset out --json
"""

from collections.abc import Sequence

from pipelines._cli.command import announce, command, end
from pipelines._options.verify import VerifyOptions


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the job.

    Returns:
      0 when the dataset is good, 1 when it has a fault.

    Raises:
      ConfigError: when there is no such folder.
    """
    options = VerifyOptions.parse(argv)
    options.find()
    if not options.dataset.json:
        announce("verify", str(options.dataset.dataset))

    from pipelines._inspect import verify as _verify

    return _verify.run(options)


if __name__ == "__main__":
    end(command("verify", run))
