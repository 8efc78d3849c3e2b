"""Ways in from Python's own rows, and out again: dicts, rows of Beam, tables, messages."""
