"""What became of a dataset since another one: which features changed, and how.

A difference is a change if it is larger than chance and than a threshold. Then it is looked for what explains it: of
columns that were swapped, or that have other units, that is what is said, and not that 30 distances are high.
"""
