"""Features that Arrow fitted, as a SavedModel that `tft.TFTransformOutput` loads: written by a process of its own."""
