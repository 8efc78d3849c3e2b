"""The kernel: what the hot path does to bytes, compiled, and the same in Python where it is not."""
