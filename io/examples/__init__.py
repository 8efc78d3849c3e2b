"""tf.Example and TFRecord as bytes."""
