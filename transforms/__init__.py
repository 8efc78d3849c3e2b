"""Transforms between sources and sinks: ways in and out, schema, validation, splits, features.

The transforms are exported here, by `__init__.pyi`, and imported when they are first used, as in `penstock.io`.

==================  ==========================================================================================
`FromDicts`         Makes batches of dicts.
`FromRows`          Makes batches of rows of Beam: `beam.Row`, named tuples, dataclasses.
`FromTables`        Makes batches of tables: `pyarrow.Table`, `pyarrow.RecordBatch`, or `pandas.DataFrame`.
`FromMessages`      Makes batches of messages: bytes of which each is one row, from whichever source.
`ToDicts`           Makes a dict of each row, of Python's own values.
`ToRows`            Makes a `beam.Row` of each row, of a type that Beam knows.
`InferSchema`       Infers one schema from all rows.
`ValidateRecords`   Rejects the rows that break the schema or a rule.
`SchemaSeverity`    Which faults reject a row, and which only warn.
`GatherEvidence`    Gathers what all rows say against a schema.
`relax_schema`      Relaxes a schema until all of these rows meet it.
`load_checks`       Reads a file of rules and of keys that are unique.
`load_rules`        Reads a file of rules.
`Checks`            What a file of rules asks of the rows.
`Rule`              One SQL predicate that every row must meet.
`UniqueKey`         Columns whose values, taken together, no two rows may share.
`RejectDuplicates`  Rejects rows whose key another row has.
`AssignSplit`       Adds `_split`, the split that each row belongs to.
`SplitByTime`       Splits by `_event_time` (`AssignEventTime`).
`SplitByFile`       Splits by the `uri` of `_origin`.
`SplitByColumn`     Splits by the values of a column of texts or integers.
`parse_split`       Parses the parts of `train=0.8,eval=0.1,test=0.1`, in that order, as exact numbers that sum to 1.
`AssignShuffleKey`  Adds `_shuffle_key`, a seeded hash of the row, to batches that have none.
`AssignEventTime`   Adds `_event_time` to every batch.
`KeepSource`        Copies the data columns of each batch into `_source`.
`FitTransform`      Fits features to rows and writes the graph, as `tft.TFTransformOutput` loads it.
`ApplyTransform`    Applies a fitted graph to batches.
`load_features`     Reads what `--features` names: a YAML file, or a `preprocessing_fn`.
`RollingFeatures`   Adds features of what happened to a key before each row.
`load_rolling`      Reads the YAML file that `--rolling` names.
`verify_dataset`    Reads a dataset again and yields each fault, and nothing for a good dataset.
`Fault`             One fault of a dataset.
==================  ==========================================================================================
"""

if __name__ == "transforms":
    raise ImportError("import penstock.transforms, not the folder transforms/ of the checkout")

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
