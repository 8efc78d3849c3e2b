"""Sources and sinks: file formats, dead letters, the dataset on disk.

The transforms and what their users need are exported here, by `__init__.pyi`. All else is internal, and may change its
name, place or behaviour with any version. A name is imported when it is first used: a command line is checked before
Beam and Arrow are loaded.

=======================  =========================================================================================
`ReadRecords`            Reads files of any known format into RecordBatches.
`ReadFromCsv`            Reads files into RecordBatches: CSV.
`ReadFromJsonl`          Reads files into RecordBatches: JSON.
`ReadFromAvro`           Reads files into RecordBatches: Avro.
`ReadFromParquet`        Reads files into RecordBatches: Parquet.
`ReadFromOrc`            Reads files into RecordBatches: ORC.
`ReadFromTFRecord`       Reads files into RecordBatches: TFRecord.
`ReadFromText`           Reads files into RecordBatches: Text.
`WatchRecords`           Reads the files that patterns match, each when it is finished, for ever.
`WatchFiles`             Finds the files that patterns match, each when it is finished.
`CsvFormat`              CSV files as RFC 4180 has them, in UTF-8.
`JsonlFormat`            JSON files in UTF-8: one object a line, or an array of objects.
`AvroFormat`             Avro container files.
`ParquetFormat`          Parquet files.
`OrcFormat`              ORC files.
`TFRecordFormat`         TFRecord files of tf.Example or tf.SequenceExample, plain or compressed.
`TextFormat`             Text files: one row a line, in the column `text`.
`ReadFromKafka`          Reads Kafka topics into RecordBatches.
`KafkaSource`            Topics of one Kafka cluster, and which part of them is read.
`CopyToKafka`            Writes rows to a Kafka topic, as `WriteToKafka`, and gives all of them on.
`WriteToKafka`           Writes rows and dead letters to a Kafka topic, each at least once.
`WriteDataset`           Writes a dataset: a folder of shards per split, and a manifest, published as a whole.
`CountRows`              Counts the rows of batches: one number for each bundle.
`DatasetObserver`        Base of what `WriteDataset` shows the rows of a dataset to.
`Staging`                The folder of one run, where everything lies until it is published.
`Outcome`                How a run ended: whether it was published, and with which counts.
`read_manifest`          Reads the manifest of a dataset.
`Manifest`               What a dataset holds and how it came to be.
`Shard`                  One shard of a dataset, as the manifest describes it.
`read_window_manifests`  Reads the manifests of all windows of a dataset, in the order of time.
`WindowManifest`         What a window of a dataset holds and how it came to be.
`DeadLetterHandler`      Writes dead letters as JSON Lines files below `directory`.
`DiscardingHandler`      Drops rejected rows, for a pass over input whose rejects another pass records.
`RejectingTransform`     Base of the transforms that may reject rows.
`DeadLetter`             One rejected row, with at least one reason.
`Reason`                 Why a row is rejected.
`Note`                   What became of values on the way, where no row is rejected for it.
`load_schema`            Reads a schema in protobuf text format, as TFDV, TFX and Penstock write it.
`schema_features`        Lists the features that are read, in the schema's order.
`write_schema`           Writes a schema in protobuf text format, UTF-8, as `load_schema`, TFDV and TFX read it.
`Feature`                One feature of a schema, as far as reading and writing need it.
`Kind`                   The three kinds of value that a tf.Example holds.
`RecordBatchCoder`       Encodes each batch as an Arrow IPC stream.
`hash_rows`              Hashes each row with XXH64, and returns uint64[rows].
`Windows`                Fixed or sliding windows of event time.
`FlushWindows`           Windows of processing time, which end when they have enough rows or are old enough.
`parse_window`           Parses `fixed:SIZE` or `sliding:SIZE/PERIOD`.
`PenstockError`          Base of all exceptions that Penstock raises on purpose.
`ConfigError`            A flag, schema, rule, feature or option is wrong; raised before any data is read.
`InputError`             A whole input is unusable: missing, truncated, with a broken footer or duplicate columns.
`DataError`              The data is at fault, not the configuration.
`RejectedRecordError`    A transform without an error handler (`with_error_handler`) rejected a record.
=======================  =========================================================================================
"""

if __name__ == "io":
    raise ImportError("import penstock.io, not the folder io/ of the checkout")

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
