"""The interface of sources, and files as a source: all of them at once, or as they arrive."""
