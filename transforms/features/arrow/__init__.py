"""How Arrow, numpy and the kernel compute the operations of a features file, without TensorFlow."""
