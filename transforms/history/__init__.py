"""What statistics were over time: their metrics as a table, and which of them have left their own history."""
