"""The dataset on disk, window by window: one module for each step."""
