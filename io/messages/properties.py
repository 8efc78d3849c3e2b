"""The properties file that the client of a message source and the schema registry's client share."""

from penstock.io.errors import ConfigError
from penstock.io.files import stores
from penstock.io.files.extras import check_filesystem

CONFIG_VARIABLE = "PENSTOCK_KAFKA_CONFIG"
# Settings of the schema registry begin with this; the others are the client's.
REGISTRY_PREFIX = "schema.registry."


def read_properties(path: str) -> dict[str, str]:
    """Reads a file with `NAME=VALUE` on each line; skips blank lines and lines that begin with # or !.

    Raises:
      ConfigError: when the file cannot be read or a line is not a setting (its content is not shown).
    """
    check_filesystem(path, f"the client settings {path}")
    try:
        with stores.open_file(path) as file:
            lines = file.read().decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the client settings {path} cannot be read: {type(error).__name__}") from error
    settings = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line[0] in "#!":
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"the client settings {path}:{number} must be NAME=VALUE")
        settings[name.strip()] = value.strip()
    return settings
