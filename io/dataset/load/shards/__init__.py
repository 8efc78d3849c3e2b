"""What shards a dataset has, and how rows of them are read."""
