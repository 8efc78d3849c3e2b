"""What columns have to do with each other."""
