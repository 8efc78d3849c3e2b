"""Uniqueness: of rows with equal keys, the first stays and the others are rejected.

The file of rules names one or several keys, each by its columns and optionally by a name::

    unique: [user_id, day]                         # one key; its name is user_id_day

    unique: [[user_id, day], [ticket]]             # two of them

    unique: {one_a_day: [user_id, day], ticket: [ticket]}

A row that repeats a key is rejected as `unique.<name>`, and its detail says where the first row is. Keys are checked
one after the other: rows that one key rejects are not seen by the next.

- **Which is first**: the first in source order, by the URI of the file and then by the position in it, however the rows
  are spread over workers. Among rows without an origin, the one with the least hash.
- **Null**: as in SQL, null is not equal to null. A row with a null in its key repeats nothing and always stays.
- **Equal**: values are compared, not hashes. Floats are compared as they were read, before a tf.Example narrows them;
  -0.0 equals 0.0, and NaN equals NaN. Lists are equal item by item, and a value equals a list of one. A list with a
  null inside repeats nothing.
- **Windows**: in a dataset with fixed windows, a key is unique within each window, and may recur in the next.
  Sliding windows, where a row lies in several, are refused.
- **Streams** need windows. There the first row to arrive stays, since no row waits for others. So which of the rows
  stays may differ from bounded input, but not how many, nor their keys. The state has one small record for each key
  of a window, until the window accepts no more rows. A row that comes even later is not compared: the sink rejects it
  as `late`.
- **Memory**: rows are cut by bucket of their key (`penstock.io.beam.spill`), and the keys of a bucket are sorted on
  disk (`penstock.io.sort`): neither many rows nor many rows of one key need to fit in memory.
"""
