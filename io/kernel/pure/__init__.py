"""The twins of the compiled modules, in Python: the same functions, the same bytes and errors, no compiler."""
