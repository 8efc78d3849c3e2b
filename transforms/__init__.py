"""Transforms between sources and sinks: schema, validation, splits, features."""

if __name__ == "transforms":
    raise ImportError("import penstock.transforms, not the folder transforms/ of the checkout")

from penstock.transforms.apply import ApplyTransform as ApplyTransform
from penstock.transforms.event_time import AssignEventTime as AssignEventTime
from penstock.transforms.features import load_features as load_features
from penstock.transforms.fit import FitTransform as FitTransform
from penstock.transforms.infer import InferSchema as InferSchema
from penstock.transforms.keep_source import KeepSource as KeepSource
from penstock.transforms.rolling import RollingFeatures as RollingFeatures
from penstock.transforms.rolling import load_rolling as load_rolling
from penstock.transforms.rules import Rule as Rule
from penstock.transforms.rules import load_rules as load_rules
from penstock.transforms.shuffle_key import AssignShuffleKey as AssignShuffleKey
from penstock.transforms.split import AssignSplit as AssignSplit
from penstock.transforms.split import parse_split as parse_split
from penstock.transforms.validate import ValidateRecords as ValidateRecords
from penstock.transforms.verify import Fault as Fault
from penstock.transforms.verify import verify_dataset as verify_dataset
