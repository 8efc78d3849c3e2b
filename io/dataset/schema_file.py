"""The schema of a dataset with windows: one file for all, which grows with the features that a stream brings."""

import dataclasses
import uuid

from penstock.io.dataset.kinds import SeenKinds, dataset_schema, kinds_of_schema
from penstock.io.dataset.layout import SCHEMA, Staging
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.files import stores
from penstock.io.files.folders import move_files
from penstock.io.schema import load_schema, write_schema


@dataclasses.dataclass(frozen=True)
class SchemaFile:
    """Writes the schema; only one worker does so at a time, the one that closes windows.

    Attributes:
      is_staged: whether the file is published with the first window, as of bounded input, or is in its final place at
        once, before any window that it describes.
    """

    staging: Staging
    spec: DatasetSpec
    is_staged: bool

    def known(self) -> SeenKinds:
        """Returns the kinds that an earlier run has written, where this one goes on from it."""
        path = stores.join(self.staging.output, SCHEMA)
        if not self.spec.resume or not stores.exists(path):
            return SeenKinds()
        return kinds_of_schema(load_schema(path))

    def write(self, kinds: SeenKinds) -> None:
        """Writes the schema of all rows that have come, in place of an earlier one."""
        schema = dataset_schema(kinds, self.spec.schema, self.spec.columns)
        final = self.staging.path(SCHEMA) if self.is_staged else stores.join(self.staging.output, SCHEMA)
        if self.is_staged or stores.is_object(final):
            write_schema(schema, final)
            return
        staged = self.staging.path("schemas", f"{uuid.uuid4().hex}.pbtxt")
        write_schema(schema, staged)
        move_files({staged: final})
