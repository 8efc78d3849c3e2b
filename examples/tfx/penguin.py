"""A TFX module for penguins, as its pipeline had it: `penstock prepare --features examples/tfx/penguin.py` runs it.

The operations are those of TFX's penguin example, whose columns these are; that they come from `custom_config` is ours.
"""

import tensorflow_transform as tft
from tfx.components.trainer.fn_args_utils import FnArgs


def preprocessing_fn(inputs, custom_config):
    """Each measure as a z-score, and the species as it is."""
    outputs = {f"{name}_xf": tft.scale_to_z_score(inputs[name]) for name in custom_config["measures"]}
    label = custom_config["label"]
    return {**outputs, f"{label}_xf": inputs[label]}


def run_fn(fn_args: FnArgs):
    """What the trainer of TFX called; Penstock leaves it alone."""
    raise NotImplementedError(fn_args)
