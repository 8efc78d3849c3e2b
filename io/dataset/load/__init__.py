"""Reads a dataset for training, without Beam and TensorFlow: `penstock.load`.

====================  ========================================================================================
`order`               which rows a rank reads, in which order; what is left of an epoch after a state
`contents`            what a loader must know of a dataset: shards, columns
`files`               files of a dataset, without Beam where they are local
`inflate`             gzip and zlib, unpacked
`shards`              from a shard to rows, one class for each format
`tars`                the same for WebDataset
`samples`             the same for MDS
`readers`             which of them a dataset needs, with which columns
`rows`                the rows of ranges of row numbers, in order, across shards
`ahead`               a thread that reads ahead
`source`              records by their number, as grain takes them
`batches`             epochs of batches of one size, and their state
`arrays`              from a batch to numpy
`tensors`             the same as a `tf.data.Dataset`
`torch`               the same as an `IterableDataset` of PyTorch, and a `DataLoader` with a state
`dataset`             `load`, and what it returns
====================  ========================================================================================
"""
