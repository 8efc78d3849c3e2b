"""What both sides of the kernel and their callers share: codes of faults, limits, layouts of results."""
