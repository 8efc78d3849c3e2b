"""The entries of a features file: parsed, and bound to the columns of a schema."""
