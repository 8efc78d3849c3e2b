"""Splits: which rows train, and which evaluate.

A kind of split is one module with a `SplitKind` (`base`), and one line in `KINDS` (`registry`). What a command line
spells is read by `spelling`, without Beam or Arrow. `AssignSplit` (`assign`) does what any kind says.

===========  ===================  ==================================================================================
module       flag                 what decides
===========  ===================  ==================================================================================
`by_hash`    `--split` `--folds`  a seeded hash of the row or of its key, so that rows with one key share a split
`by_time`    `--split_time`       the event time, so that a moment is in one split
`by_file`    `--split_from`       the file that the row comes from, so that a file is in one split
`by_column`  `--split_column`     a column that says it
===========  ===================  ==================================================================================

Each decides by the row alone: not by order, batches, workers or other rows. So a row has the same split in batch and on
a stream. What flags keep out of all splits (`--split_gap`) becomes a dead letter of the stage `excluded`.
"""
