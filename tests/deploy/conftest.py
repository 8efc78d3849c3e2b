"""What is deployed is no part of the package: it is found in the root, behind everything else."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parents[2]))
