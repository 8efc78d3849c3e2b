"""Which engine computes features: Arrow, or TensorFlow with tensorflow-transform."""

from penstock.io.errors import ConfigError
from penstock.io.files import stores
from penstock.transforms._named import FITTED_FEATURES, AnyEngine, Engine
from penstock.transforms.features.functions import FeatureFile
from penstock.transforms.features.tensorflow import check_tensorflow


def choose_engine(features: object, wanted: AnyEngine = "auto") -> Engine:
    """Returns the engine that fits these features.

    Args:
      features: a `FeatureFile`, or a `preprocessing_fn`, which only TensorFlow computes.
      wanted: "auto" takes Arrow for a `FeatureFile`.

    Raises:
      ConfigError: when Arrow is wanted for a `preprocessing_fn`.
      ImportError: when it is TensorFlow, and the extra `tft` is not installed.
    """
    if wanted != "tft":
        if isinstance(features, FeatureFile):
            return "arrow"
        if wanted == "arrow":
            raise ConfigError("--features_engine arrow: has no preprocessing_fn; take auto or tft (the extra tft)")
    check_tensorflow()
    return "tft"


def fitted_engine(transform_dir: str) -> Engine:
    """Returns the engine that applies what is in a folder of fitted features."""
    return "arrow" if stores.exists(stores.join(transform_dir, FITTED_FEATURES)) else "tft"
