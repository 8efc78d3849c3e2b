"""Rolling features: what happened before each row, by key."""
