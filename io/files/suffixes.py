"""What the suffixes of a file say: its compression as a whole, and below it its format; nothing heavy is imported."""

from penstock.io.errors import InputError

# Suffix to the codec that Arrow reads it with.
# Arrow's gzip reader tells zlib streams by their header.
CODECS = {".gz": "gzip", ".zlib": "gzip", ".bz2": "bz2", ".zst": "zstd", ".zstd": "zstd"}


def codec_of(uri: str) -> str | None:
    """Arrow's name of the compression that the suffix promises; None for a plain file.

    >>> codec_of("gs://b/day.CSV.GZ")
    'gzip'
    """
    return next((codec for suffix, codec in CODECS.items() if uri.lower().endswith(suffix)), None)


def format_suffix(uri: str) -> str:
    """The suffix that tells the format, below a compression suffix.

    >>> format_suffix("gs://b/day.CSV.gz")
    'csv'
    """
    name = uri.lower().rsplit("/", 1)[-1]
    for suffix in CODECS:
        name = name.removesuffix(suffix)
    return name.rsplit(".", 1)[-1] if "." in name else ""


def compressed_inside(uri: str, title: str) -> InputError:
    """The error for a compressed file of a format that compresses inside its files."""
    return InputError(
        f"{uri}: {title} is compressed inside its files, so none can be {codec_of(uri)} as a whole: unpack it first"
    )
