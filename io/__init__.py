"""Sources and sinks: file formats, dead letters, the dataset on disk.

The transforms and what their users need are exported here, by `__init__.pyi`; the pure functions below them are in the
modules. A name is imported when it is first used: a command line is checked before Beam and Arrow are loaded.
"""

if __name__ == "io":
    raise ImportError("import penstock.io, not the folder io/ of the checkout")

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
