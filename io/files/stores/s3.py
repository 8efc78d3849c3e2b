"""`s3://BUCKET/key`: Amazon S3, and services that speak its protocol.

Credentials, region and endpoint are found as Amazon's tools find them: environment, profile, web identity, container,
instance; flags win.
"""

import functools
import os
from typing import Any

from obstore.store import S3Store

from penstock.io.errors import ConfigError
from penstock.io.files.stores.config import StoreConfig, current, environment
from penstock.io.files.stores.objects import ObjectStore
from penstock.io.files.stores.retries import Requests
from penstock.io.files.stores.rust import LONG_RETRIES, SHORT_RETRIES, TIMEOUTS, ObstoreBucket

_CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run where a role gives some; "
    "--anonymous_stores reads what is public"
)


def _open_bucket(name: str) -> ObstoreBucket:
    return _bucket(name, current(), environment("AWS_"))


@functools.lru_cache(maxsize=64)
def _bucket(name: str, config: StoreConfig, environ: tuple[tuple[str, str], ...]) -> ObstoreBucket:
    options = _options(name, config)
    return ObstoreBucket(*(S3Store(name, retry_config=retries, **options) for retries in (SHORT_RETRIES, LONG_RETRIES)))


def _options(name: str, config: StoreConfig) -> dict[str, Any]:
    environ = os.environ
    endpoint = config.s3_endpoint_url or environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    region = config.s3_region_name or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    options: dict[str, Any] = {"client_options": dict(TIMEOUTS)}
    if endpoint:
        options |= {"endpoint": endpoint, "virtual_hosted_style_request": False}
        options["client_options"]["allow_http"] = endpoint.startswith("http://")
    if config.anonymous_stores or environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true"):
        return options | {"skip_signature": True, "region": region or "us-east-1"}
    provider, of_profile = _credentials(name)
    return options | {"credential_provider": provider, "region": region or of_profile or "us-east-1"}


def _credentials(bucket: str) -> tuple[Any, str | None]:
    """Where credentials come from, as boto3 finds them, and the region of the profile."""
    import boto3
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        session = boto3.Session()
        found = session.get_credentials()
    except BotoCoreError as error:  # of a profile that is not there
        raise ConfigError(f"s3://{bucket}: no credentials: {error}; {_CREDENTIALS}") from error
    if found is None:
        raise ConfigError(f"s3://{bucket}: no credentials were found; {_CREDENTIALS}")
    return Boto3CredentialProvider(session), session.region_name


_NEEDS = {"read": "s3:GetObject", "list": "s3:ListBucket", "write": "s3:PutObject", "delete": "s3:DeleteObject"}

STORES = {"s3": ObjectStore(Requests("S3", _NEEDS, _CREDENTIALS), _open_bucket)}
