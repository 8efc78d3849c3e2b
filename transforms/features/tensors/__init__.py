"""Tensors as columns: those that go into a graph, and those that come out of it."""
