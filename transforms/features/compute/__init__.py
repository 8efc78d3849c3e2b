"""How TensorFlow computes the operations of a features file."""
