"""Spans: what was added to a dataset at one time, and the versions that come of adding, dropping and compacting them."""
