"""Avro schemas from a schema registry, by id: `GET URL/schemas/ids/ID`, the API of Confluent's registry.

Settings have the names of Confluent's clients. The workers read them; they are never written:

- the environment: `PENSTOCK_SCHEMA_REGISTRY_<SETTING>`, with `_` for `.`;
- else the properties file of the messages' source (`penstock.io.kafka.client`), where their names begin with
  `schema.registry.`.

=============================================  =========================
setting                                        for
=============================================  =========================
`basic.auth.user.info`                         `USER:PASSWORD`
`bearer.auth.token`                            a token instead
`ssl.ca.location`                              trusted certificates, PEM
`ssl.certificate.location` `ssl.key.location`  the client's own, PEM
=============================================  =========================
"""

import base64
import http.client
import json
import logging
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from penstock.io.errors import ConfigError, DataError
from penstock.io.messages.properties import CONFIG_VARIABLE, REGISTRY_PREFIX, read_properties

_LOGGER = logging.getLogger(__name__)

_VARIABLE = "PENSTOCK_SCHEMA_REGISTRY_"
_SETTINGS = (
    "basic.auth.user.info",
    "bearer.auth.token",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
)

_TIMEOUT_SECONDS = 10.0
# Seconds before each retry; after the last one the runner repeats the bundle.
_PAUSES = (0.3, 1.0, 3.0)


class SchemaFault(Exception):
    """The registry has no usable schema of an id; messages with that id are at fault, not the registry."""


class SchemaRegistry:
    """One registry; its pickle holds no settings."""

    def __init__(self, url: str, config: str | None = None):
        self.url = url.rstrip("/")
        self._config = config
        self._opener: urllib.request.OpenerDirector | None = None

    def schema(self, schema_id: int) -> Any:
        """Returns the Avro schema of an id, as JSON, with the schemas that it refers to put in.

        Raises:
          SchemaFault: when the registry has no such schema, or it is not Avro.
          DataError: when the registry does not answer, or its answer is wrong.
          ConfigError: when the settings are wrong.
        """
        answer = self._get(f"/schemas/ids/{schema_id}")
        kind = answer.get("schemaType", "AVRO")
        if kind != "AVRO":
            raise SchemaFault(f"schema {schema_id} of {self.url} is {kind}; only Avro is read")
        definitions: dict[str, Any] = {}
        self._collect(answer, definitions)
        return inline(self._parsed(answer), definitions)

    def _collect(self, answer: Mapping[str, Any], definitions: dict[str, Any]) -> None:
        """Collects the schemas that an answer refers to, and those that they refer to, by full name."""
        for reference in answer.get("references") or ():
            if reference["name"] not in definitions:
                found = self._get(f"/subjects/{quote(reference['subject'], safe='')}/versions/{reference['version']}")
                definitions[reference["name"]] = self._parsed(found)
                self._collect(found, definitions)

    def _parsed(self, answer: Mapping[str, Any]) -> Any:
        try:
            return json.loads(answer["schema"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{self.url}: the schema registry's answer holds no schema: {error!r}") from error

    def _get(self, path: str) -> dict[str, Any]:
        url = self.url + path
        if self._opener is None:
            self._opener = _opener(registry_settings(self._config))
        for pause in (*_PAUSES, None):
            try:
                return _ask(self._opener, url)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code == 404:
                    raise SchemaFault(f"{url}: the schema registry has no such schema") from None
                if error.code in (401, 403):
                    raise DataError(
                        f"{url}: the schema registry refuses the client (HTTP {error.code}); check "
                        f"{_VARIABLE}BASIC_AUTH_USER_INFO or {_VARIABLE}BEARER_AUTH_TOKEN, where workers run too"
                    ) from None
                trouble = f"HTTP {error.code}"
                if error.code < 500 and error.code != 429:
                    break
            except (OSError, http.client.HTTPException, ValueError) as error:
                trouble = str(getattr(error, "reason", error)) or type(error).__name__
            if pause is not None:
                _LOGGER.warning("%s: the schema registry does not answer (%s); trying again", url, trouble)
                time.sleep(pause)
        raise DataError(f"{url}: the schema registry does not answer: {trouble}")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opener": None}


def _ask(opener: urllib.request.OpenerDirector, url: str) -> dict[str, Any]:
    with opener.open(url, timeout=_TIMEOUT_SECONDS) as answer:
        found = json.load(answer)
    if not isinstance(found, dict):
        raise ValueError("the answer is no JSON object")
    return found


def registry_settings(config: str | None, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Returns the settings of the registry's client.

    Raises:
      ConfigError: when a setting is unknown, or `read_properties` fails.
    """
    path = config or environment.get(CONFIG_VARIABLE)
    stored = read_properties(path) if path else {}
    settings = {
        name.removeprefix(REGISTRY_PREFIX): value for name, value in stored.items() if name.startswith(REGISTRY_PREFIX)
    }
    settings.pop("url", None)
    for variable, value in environment.items():
        if variable.startswith(_VARIABLE):
            settings[variable.removeprefix(_VARIABLE).lower().replace("_", ".")] = value
    settings.pop("basic.auth.credentials.source", None)
    if unknown := [name for name in settings if name not in _SETTINGS]:
        raise ConfigError(f"{unknown[0]} is no setting of the schema registry; they are {', '.join(_SETTINGS)}")
    return settings


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: credentials must not go to another host."""

    def redirect_request(self, *unused: Any) -> None:
        return None


def _opener(settings: Mapping[str, str]) -> urllib.request.OpenerDirector:
    handlers: list[Any] = [_NoRedirects()]
    if any(name.startswith("ssl.") for name in settings):
        handlers.append(urllib.request.HTTPSHandler(context=_tls(settings)))
    opener = urllib.request.build_opener(*handlers)
    opener.addheaders = [("Accept", "application/vnd.schemaregistry.v1+json, application/json")]
    if "bearer.auth.token" in settings:
        opener.addheaders.append(("Authorization", f"Bearer {settings['bearer.auth.token']}"))
    elif "basic.auth.user.info" in settings:
        token = base64.b64encode(settings["basic.auth.user.info"].encode()).decode()
        opener.addheaders.append(("Authorization", f"Basic {token}"))
    return opener


def _tls(settings: Mapping[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.get("ssl.ca.location"))
        if "ssl.certificate.location" in settings:
            context.load_cert_chain(settings["ssl.certificate.location"], settings.get("ssl.key.location"))
    except OSError as error:
        raise ConfigError(f"the certificates of the schema registry cannot be read: {error}") from error
    return context


def inline(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """Replaces the first use of each name that is defined elsewhere with its definition.

    >>> inline({"type": "record", "name": "a", "fields": [{"name": "x", "type": "n.b"}]},
    ...        {"n.b": {"type": "enum", "name": "n.b", "symbols": ["s"]}})["fields"][0]["type"]["symbols"]
    ['s']
    """
    return _inline(schema, "", definitions, set())


def _inline(node: Any, namespace: str, definitions: Mapping[str, Any], done: set[str]) -> Any:
    match node:
        case str():
            name = next((name for name in (node, f"{namespace}.{node}") if name in definitions), None)
            if name is None or name in done:
                return node
            done.add(name)
            return _inline(definitions[name], "", definitions, done)
        case list():
            return [_inline(member, namespace, definitions, done) for member in node]
        case dict():
            full_name = str(node.get("name", ""))
            namespace = full_name.rpartition(".")[0] or node.get("namespace", namespace)
            done.add(full_name if "." in full_name or not namespace else f"{namespace}.{full_name}")
            inner = {key: node[key] for key in ("type", "items", "values") if key in node}
            found = node | {key: _inline(value, namespace, definitions, done) for key, value in inner.items()}
            if "fields" in node:
                found["fields"] = [
                    field | {"type": _inline(field["type"], namespace, definitions, done)} for field in node["fields"]
                ]
            return found
    return node
