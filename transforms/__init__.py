"""Transforms between sources and sinks: ways in and out, schema, validation, splits, features.

The transforms are exported here, by `__init__.pyi`, and imported when they are first used, as in `penstock.io`.

====================  ==========================================================================================
`FromDicts`           Makes batches of dicts.
`FromRows`            Makes batches of rows of Beam: `beam.Row`, named tuples, dataclasses.
`FromTables`          Makes batches of tables: `pyarrow.Table`, `pyarrow.RecordBatch`, or `pandas.DataFrame`.
`FromMessages`        Makes batches of messages: bytes of which each is one row, from whichever source.
`ToDicts`             Makes a dict of each row, of Python's own values.
`ToRows`              Makes a `beam.Row` of each row, of a type that Beam knows.
`InferSchema`         Infers one schema from all rows.
`infer_schema`        Infers a schema from statistics, with TFDV's meaning.
`suggest_rules`       Suggests rules and unique keys that the data meets which statistics are of.
`Suggestions`         What statistics suggest to check.
`SuggestedRule`       A rule that the data meets, but for some rows.
`SuggestedKey`        A column whose values seem to be different in each row.
`ValidateRecords`     Rejects the rows that break the schema or a rule.
`SchemaSeverity`      Which faults reject a row, and which only warn.
`GatherEvidence`      Gathers what all rows say against a schema.
`relax_schema`        Relaxes a schema until all of these rows meet it.
`load_checks`         Reads a file of rules and of keys that are unique.
`load_rules`          Reads a file of rules.
`Checks`              What a file of rules asks of the rows.
`Rule`                One SQL predicate that every row must meet.
`UniqueKey`           Columns whose values, taken together, no two rows may share.
`RejectDuplicates`    Rejects rows whose key another row has.
`AssignSplit`         Adds `_split`, the split that each row belongs to.
`SplitByTime`         Splits by `_event_time` (`AssignEventTime`).
`SplitByFile`         Splits by the `uri` of `_origin`.
`SplitByColumn`       Splits by the values of a column of texts or integers.
`parse_split`         Parses the parts of `train=0.8,eval=0.1,test=0.1`, in that order, as exact numbers that sum to 1.
`AssignShuffleKey`    Adds `_shuffle_key`, a seeded hash of the row, to batches that have none.
`AssignEventTime`     Adds `_event_time` to every batch.
`KeepSource`          Copies the data columns of each batch into `_source`.
`FitTransform`        Fits features to rows and writes what applies them.
`ApplyTransform`      Applies a fitted graph to batches.
`load_features`       Reads what `--features` names: a YAML file, or a `preprocessing_fn`.
`RollingFeatures`     Adds features of what happened to a key before each row.
`load_rolling`        Reads the YAML file that `--rolling` names.
`DatasetStatistics`   Stages `statistics/in.pb`, `out.pb` and `rejected.pb`, each with the same as `.json`.
`verify_dataset`      Reads a dataset again and yields each fault, and nothing for a good dataset.
`Fault`               One fault of a dataset.
`compute_statistics`  Computes the statistics of batches at hand.
`ComputeStatistics`   Computes the statistics of all rows, or of the rows of each window.
`StatisticsOptions`   What statistics are computed.
`Statistics`          Statistics by dataset, as TFDV's proto and as files.
`merge_statistics`    Reads files of statistics and merges them.
`check_statistics`    Returns what is wrong with datasets, the gravest first.
`Findings`            What `check_statistics` finds, the gravest first.
`Finding`             One thing that is wrong.
`Thresholds`          How much two datasets may differ: a finding is a difference larger than chance and a threshold.
`update_schema`       Returns a schema that accepts what was found: these findings' edits, one after the other.
`leaving`             Finds the metrics whose newest point has left their history.
`Leaving`             A metric that has left its own history.
`Report`              A report on one or two sets of data, as one HTML file; nothing is fetched when it is opened.
`dataset_report`      Makes the report of what is published in a folder; a job may be at work in it.
====================  ==========================================================================================
"""

if __name__ == "transforms":
    raise ImportError("import penstock.transforms, not the folder transforms/ of the checkout")

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
