"""Code that both sides of the kernel and their callers share: faults, limits, patterns and positions of bytes."""
