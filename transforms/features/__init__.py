"""Features: their file, their fit over all rows, and the graph that computes them."""
