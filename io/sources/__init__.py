"""Files as a source: all of them at once, or as they come."""
