"""Lists of inputs: `@FILE` in place of a file, a folder or a pattern stands for what the list names.

What a list is, its name tells: a file `.json` is a manifest, of a dataset or of an inventory; `.csv` is an inventory;
a folder is a dataset; every other file has a path or a pattern on each line.
"""
