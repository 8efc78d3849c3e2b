"""Penstock's transforms for Beam YAML.

`providers.yaml`, in this folder, tells Beam YAML the types; a pipeline includes it by its path, `PROVIDERS`.
"""

import pathlib

PROVIDERS = str(pathlib.Path(__file__).with_name("providers.yaml"))
