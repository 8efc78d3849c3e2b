"""Dead letters as input, once each."""
