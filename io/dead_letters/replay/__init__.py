"""Reads dead letters as input, each of them once."""
