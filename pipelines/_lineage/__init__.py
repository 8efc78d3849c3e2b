"""What a run tells others of where data come from and where they go: OpenLineage's events."""
