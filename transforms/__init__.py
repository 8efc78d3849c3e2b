"""Transforms between sources and sinks: schema, validation, splits, features."""

if __name__ == "transforms":
    raise ImportError("import penstock.transforms, not the folder transforms/ of the checkout")
