"""Jobs that look at a dataset."""
