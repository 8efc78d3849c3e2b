"""Loading a dataset, beside others who read the same shards: `python -m benchmarks.load.run`.

====================  =================================================================
`rows`                the datasets
`run`                 runs everyone by turns, and prints a table
`_clock`              what the scripts of the readers have in common
others                a reader each, in a process of its own
====================  =================================================================
"""
