"""The process that exports: it alone imports TensorFlow, and works in folders of this machine.

::

    python -m penstock.transforms.features.exported.process FEATURES TARGET

It exits with 2 where the features cannot be read, and with 1 where the disk is full; the last line on standard error
says why.
"""

import logging
import os
import sys
from collections.abc import Sequence

from penstock.io.errors import ConfigError
from penstock.io.files.system_errors import explained
from penstock.io.files.temporary import temporary_folder
from penstock.transforms.features.arrow.fitted_file import read_fitted
from penstock.transforms.features.exported.preprocessing import FittedPreprocessing
from penstock.transforms.features.left_out import read_left_out
from penstock.transforms.features.tensorflow import import_tensorflow

WRONG_FEATURES, NO_ROOM = 2, 1


def main(argv: Sequence[str]) -> int:
    """Exports the features of the first folder to the second one."""
    features, target = argv
    try:
        write_saved_model(features, target)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return WRONG_FEATURES
    except OSError as error:
        print(explained(error), file=sys.stderr)
        return NO_ROOM
    return 0


def write_saved_model(features: str, target: str) -> None:
    """Writes the SavedModel of fitted features to `transform_fn/` in a folder of this machine.

    Raises:
      ConfigError: when the features cannot be read.
      MissingExtraError: without the extra `tft`.
    """
    program = read_fitted(features, read_left_out(features))
    t = import_tensorflow()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # a user cannot act on its warnings
    from tensorflow_transform import impl_helper

    with temporary_folder() as folder:
        assets, traced = (os.path.join(folder, name) for name in ("assets", "traced"))
        os.mkdir(assets)
        function = FittedPreprocessing(t, program, assets)
        specs = {tensor.name: tensor.spec(t.tf) for tensor in function.tensors}
        impl_helper.analyze_in_place(function, False, {}, specs, traced)
        os.rename(os.path.join(traced, "transform_fn"), os.path.join(target, "transform_fn"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
