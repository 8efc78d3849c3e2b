"""Values in Arrow columns: their text, their lists, their types, their times, their hashes."""
