"""Spans: what was added to a dataset at one time, and the versions of it that come of that."""
