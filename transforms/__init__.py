"""Transforms between sources and sinks: schema, validation, splits, features.

The transforms are exported here, by `__init__.pyi`, and imported when they are first used, as in `penstock.io`.
"""

if __name__ == "transforms":
    raise ImportError("import penstock.transforms, not the folder transforms/ of the checkout")

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
