"""The card of a dataset: what `README.md` in its folder says of it."""
