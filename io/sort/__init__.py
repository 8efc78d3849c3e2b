"""An external sort of opaque bytes by keys; it knows neither Beam nor tf.Example."""
