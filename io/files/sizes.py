"""Sizes as people read them."""


def byte_text(count: int) -> str:
    """A number of bytes as people read it.

    >>> byte_text(134217728)
    '128.0 MiB'
    """
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
