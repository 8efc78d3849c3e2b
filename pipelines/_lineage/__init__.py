"""What others are told of data, where they come from and where they go: OpenLineage, Croissant."""
