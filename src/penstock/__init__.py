"""Penstock: raw records in, verified training data out.

Sources and sinks live in `penstock.io`, transforms in `penstock.transforms`, and the jobs that wire them in
`pipelines` (`penstock prepare --help`).
"""

__version__ = "0.1.0"
