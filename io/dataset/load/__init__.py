"""Reads a dataset for training, without Beam and TensorFlow: `penstock.load`.

====================  ========================================================================================
`order`               which rows a rank reads, in which order; what is left of an epoch after a state
`contents`            what a loader must know of a dataset: shards, columns
`files`               files of a dataset, without Beam where they are local
`shards`              from a shard to rows, one class for each format
`tars`                the same for WebDataset
`readers`             which of them a dataset needs, with which columns
`rows`                the rows of ranges of row numbers, in order, across shards
`batches`             epochs of batches of one size, and their state
`arrays`              from a batch to numpy
`tensors`             the same as a `tf.data.Dataset`
`dataset`             `load`, and what it returns
====================  ========================================================================================
"""
