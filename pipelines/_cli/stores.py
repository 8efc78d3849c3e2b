"""The flags of stores that Beam has none for, among Beam's own, so that they reach its workers as these do.

`penstock.io.files.stores.config` says what they mean, with those that Beam has: `--s3_endpoint_url`,
`--s3_region_name`, `--blob_service_endpoint` and `--project`.
"""

import argparse

from apache_beam.options.pipeline_options import PipelineOptions


class StoreOptions(PipelineOptions):
    """What Beam's options of stores lack."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--gcs_endpoint_url", help="gs://: where a service listens that is not Google's")
        parser.add_argument(
            "--anonymous_stores",
            action="store_true",
            help="s3://, az://, gs://: read what is public, without credentials",
        )
