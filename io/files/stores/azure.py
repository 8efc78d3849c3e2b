"""`az://CONTAINER/path` and `azfs://ACCOUNT/CONTAINER/path`: Azure Blob Storage.

The account of `az://` and the credentials are found as Azure's tools find them: a connection string, an account's key,
a SAS token, a service principal, a workload identity, a managed identity, `az login`.
"""

import functools
import os
from typing import Any

from obstore.store import AzureStore

from penstock.io.errors import ConfigError
from penstock.io.files.stores.config import StoreConfig, current, environment
from penstock.io.files.stores.objects import ObjectStore
from penstock.io.files.stores.retries import Requests
from penstock.io.files.stores.rust import LONG_RETRIES, SHORT_RETRIES, TIMEOUTS, ObstoreBucket

_CREDENTIALS = (
    "set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN, "
    "or log in (az login), or run where an identity is given; --anonymous_stores reads what is public"
)


def _open_bucket(name: str) -> ObstoreBucket:
    return _bucket(name, current(), environment("AZURE_"))


@functools.lru_cache(maxsize=64)
def _bucket(name: str, config: StoreConfig, environ: tuple[tuple[str, str], ...]) -> ObstoreBucket:
    account, _, container = name.rpartition("/")
    options = _options(account, container, config)
    return ObstoreBucket(
        *(AzureStore(container, retry_config=retries, **options) for retries in (SHORT_RETRIES, LONG_RETRIES))
    )


def _options(account: str, container: str, config: StoreConfig) -> dict[str, Any]:
    given = _connection(os.environ.get("AZURE_STORAGE_CONNECTION_STRING", ""))
    account = account or given.get("AccountName", "") or _first("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME")
    if not account:
        raise ConfigError(
            f"az://{container}: names no account: set AZURE_STORAGE_ACCOUNT, or write azfs://ACCOUNT/{container}"
        )
    options: dict[str, Any] = {"account_name": account, "client_options": dict(TIMEOUTS)}
    endpoint = config.blob_service_endpoint or given.get("BlobEndpoint") or _first("AZURE_STORAGE_ENDPOINT")
    if endpoint:
        options["endpoint"] = endpoint.rstrip("/")
        options["client_options"]["allow_http"] = endpoint.startswith("http://")
    if config.anonymous_stores:
        return options | {"skip_signature": True}
    if key := given.get("AccountKey") or _first("AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY"):
        return options | {"account_key": key}
    if token := given.get("SharedAccessSignature") or _first("AZURE_STORAGE_SAS_TOKEN"):
        return options | {"sas_key": token}
    return options | {"credential_provider": _identity(container)}


def _connection(text: str) -> dict[str, str]:
    """The parts of a connection string.

    >>> _connection("AccountName=a;AccountKey=b==;")
    {'AccountName': 'a', 'AccountKey': 'b=='}
    """
    parts = (part.partition("=") for part in text.split(";") if part)
    return {name: value for name, _, value in parts}


def _first(*names: str) -> str:
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


def _identity(container: str) -> Any:
    """Who this is, as Azure's library finds it.

    Raises:
      ConfigError: when it finds nobody.
    """
    import logging

    from azure.core.exceptions import ClientAuthenticationError
    from azure.identity import DefaultAzureCredential
    from obstore.auth.azure import AzureCredentialProvider

    logging.getLogger("azure.identity").setLevel(logging.CRITICAL)  # its error of many lines says nothing more
    provider = AzureCredentialProvider(DefaultAzureCredential(exclude_interactive_browser_credential=True))
    try:
        provider()
    except ClientAuthenticationError as error:
        raise ConfigError(f"az://{container}: no credentials were found; {_CREDENTIALS}") from error
    return provider


_NEEDS = {
    "read": "the role Storage Blob Data Reader",
    "list": "the role Storage Blob Data Reader",
    "write": "the role Storage Blob Data Contributor",
    "delete": "the role Storage Blob Data Contributor",
}

_REQUESTS = Requests("Azure Blob Storage", _NEEDS, _CREDENTIALS)

STORES = {"az": ObjectStore(_REQUESTS, _open_bucket), "azfs": ObjectStore(_REQUESTS, _open_bucket, bucket_parts=2)}
