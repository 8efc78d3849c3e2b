"""The Python of a `preprocessing_fn`: where it is imported from, how it reaches workers, what its graph may not do."""
