"""Anomalies: what is wrong with a dataset, by its statistics alone.

`check_statistics` (`check`) holds the statistics of datasets against a schema (`against_schema`), and against those of
another span or of what is served. It reads and writes protos, needs neither Beam nor rows, and its answer follows from
them alone.
"""
