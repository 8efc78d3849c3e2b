"""Which engine computes features: Arrow, or TensorFlow with tensorflow-transform."""

from collections.abc import Sequence

from penstock.io.errors import ConfigError
from penstock.io.files import stores
from penstock.transforms._named import FITTED_FEATURES, AnyEngine, Engine
from penstock.transforms.features.arrow.program import missing_operations
from penstock.transforms.features.functions import FeatureFile
from penstock.transforms.features.tensorflow import check_tensorflow


def choose_engine(features: object, wanted: AnyEngine = "auto") -> Engine:
    """Returns the engine that fits these features.

    Args:
      features: a `FeatureFile`, or a `preprocessing_fn`, which only TensorFlow computes.
      wanted: "auto" takes Arrow where it has all operations.

    Raises:
      ConfigError: when Arrow is wanted and does not have them all; names them.
      ImportError: when it is TensorFlow, and the extra `tft` is not installed.
    """
    if wanted != "tft":
        missing = missing_operations(features.entries) if isinstance(features, FeatureFile) else ("a preprocessing_fn",)
        if not missing:
            return "arrow"
        if wanted == "arrow":
            raise ConfigError(f"--features_engine arrow: has no {_listed(missing)}; take auto or tft (the extra tft)")
    check_tensorflow()
    return "tft"


def fitted_engine(transform_dir: str) -> Engine:
    """Returns the engine that applies what is in a folder of fitted features."""
    return "arrow" if stores.exists(stores.join(transform_dir, FITTED_FEATURES)) else "tft"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
