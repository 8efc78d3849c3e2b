"""Services of tests are started as deploy/ starts those of users; it is found behind everything else."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parents[2]))
