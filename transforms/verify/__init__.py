"""Verification: reads a dataset again, byte by byte, and compares it with its manifest and its schema.

It checks the manifest itself and its sums; that each file it names is there, with its size and CRC32C; each shard's
record count, uncompressed size and SHA-256, and the checksums inside it; that every record conforms to the dataset's
schema (that of the features, where a transform was applied), or, in a dataset without one, that each feature has one
kind in all records; the lines of the dead letters; that statistics are of as many rows; and that the folder holds
nothing that no manifest knows, except for what unfinished runs left there (`penstock.transforms.leftovers`). Of a
dataset that was added to, each span must agree with its part of the manifest, and the sums with the spans. For a
dataset with windows, it checks all this for each window's manifest, which must also agree with its window; the rows of
windows that were put together are those of their set, which must have as many as they say.
"""

from penstock.transforms.verify.dataset import verify_dataset as verify_dataset
from penstock.transforms.verify.fault import Fault as Fault
