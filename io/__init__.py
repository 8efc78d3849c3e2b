"""Sources and sinks: file formats, dead letters, the dataset on disk."""

if __name__ == "io":
    raise ImportError("import penstock.io, not the folder io/ of the checkout")
