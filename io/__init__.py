"""Sources and sinks: file formats, dead letters, the dataset on disk.

The transforms and what their users need are exported here; the pure functions below them are in the modules.
"""

if __name__ == "io":
    raise ImportError("import penstock.io, not the folder io/ of the checkout")

from penstock.io.avro import AvroFormat as AvroFormat
from penstock.io.batches import RecordBatchCoder as RecordBatchCoder
from penstock.io.csv import CsvFormat as CsvFormat
from penstock.io.dead_letters import DeadLetter as DeadLetter
from penstock.io.dead_letters import DeadLetterHandler as DeadLetterHandler
from penstock.io.dead_letters import DiscardingHandler as DiscardingHandler
from penstock.io.dead_letters import Reason as Reason
from penstock.io.dead_letters import RejectingTransform as RejectingTransform
from penstock.io.errors import ConfigError as ConfigError
from penstock.io.errors import DataError as DataError
from penstock.io.errors import InputError as InputError
from penstock.io.errors import PenstockError as PenstockError
from penstock.io.errors import RejectedRecordError as RejectedRecordError
from penstock.io.hashing import hash_rows as hash_rows
from penstock.io.jsonl import JsonlFormat as JsonlFormat
from penstock.io.kafka.read import ReadFromKafka as ReadFromKafka
from penstock.io.kafka.source import KafkaSource as KafkaSource
from penstock.io.kafka.write import WriteToKafka as WriteToKafka
from penstock.io.layout import Staging as Staging
from penstock.io.manifest import Manifest as Manifest
from penstock.io.manifest import Shard as Shard
from penstock.io.manifest import read_manifest as read_manifest
from penstock.io.parquet import ParquetFormat as ParquetFormat
from penstock.io.publish import Outcome as Outcome
from penstock.io.read import ReadFromAvro as ReadFromAvro
from penstock.io.read import ReadFromCsv as ReadFromCsv
from penstock.io.read import ReadFromJsonl as ReadFromJsonl
from penstock.io.read import ReadFromParquet as ReadFromParquet
from penstock.io.read import ReadFromTFRecord as ReadFromTFRecord
from penstock.io.read import ReadRecords as ReadRecords
from penstock.io.schema import Feature as Feature
from penstock.io.schema import Kind as Kind
from penstock.io.schema import load_schema as load_schema
from penstock.io.schema import schema_features as schema_features
from penstock.io.schema import write_schema as write_schema
from penstock.io.tfrecord import TFRecordFormat as TFRecordFormat
from penstock.io.watch import WatchFiles as WatchFiles
from penstock.io.watch import WatchRecords as WatchRecords
from penstock.io.windowed.manifest import WindowManifest as WindowManifest
from penstock.io.windowed.manifest import read_window_manifests as read_window_manifests
from penstock.io.windowed.windows import Windows as Windows
from penstock.io.windowed.windows import parse_window as parse_window
from penstock.io.write import CountRows as CountRows
from penstock.io.write import WriteDataset as WriteDataset
