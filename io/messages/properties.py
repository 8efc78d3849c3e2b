"""The file of settings that clients share: that of a source of messages, and the schema registry's."""

from apache_beam.io.filesystems import FileSystems

from penstock.io.errors import ConfigError
from penstock.io.files.extras import check_filesystem

CONFIG_VARIABLE = "PENSTOCK_KAFKA_CONFIG"
# Settings of the schema registry; the others are the client's.
REGISTRY_PREFIX = "schema.registry."


def read_properties(path: str) -> dict[str, str]:
    """`NAME=VALUE` a line; blank lines and those that begin with # or ! are left out.

    Raises:
      ConfigError: when the file cannot be read or has a line that is no setting (its content is not shown).
    """
    check_filesystem(path, f"the client settings {path}")
    try:
        with FileSystems.open(path, compression_type="uncompressed") as file:
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
