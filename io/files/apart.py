"""Whether what a job reads and what it writes lie apart, without Beam.

A job that overwrites its output deletes what is there, and a job whose output lies among its inputs reads its own
output the next time. Paths are compared as the system sees them: through links, `..`, relative names, and whatever a
filesystem does with case. URIs of stores are compared by their normal form.
"""

import os
import re
from collections.abc import Iterable, Sequence

from penstock.io.errors import ConfigError
from penstock.io.files.paths import fixed_folder, is_hidden, is_left_out, is_local, is_pattern


def check_apart(value: str, what: str, output: str, written: Sequence[str] = ()) -> None:
    """Refuses an input that lies in the output, or would take in what is written there.

    Args:
      value: a file, a folder or a pattern.
      what: its flag, with the value.
      output: the folder that is written.
      written: examples of the files that come there, relative to it.

    Raises:
      ConfigError: naming both.
    """
    is_file = not is_pattern(value) or (is_local(value) and os.path.exists(value))
    if lies_in(value if is_file else fixed_folder(value), output):
        raise _inside(what, output)
    if is_file:
        if lies_in(output, value) and not _is_hidden_below(output, value):
            raise ConfigError(
                f"--output {output}: lies in {what}, so the next run would read what this one writes; name a folder "
                "outside of it, or one whose name begins with _"
            )
        return
    for path in written:
        if _matches(f"{output.rstrip('/')}/{path}", value):
            raise ConfigError(
                f"{what}: matches what the job writes to --output {output}, such as {path}; name another folder, or a "
                "pattern that does not reach there"
            )


def check_outside(values: Iterable[str], what: str, output: str, kept: str | None = None) -> None:
    """Refuses files that lie in the output, where they would be deleted; links are followed.

    Args:
      values: files or folders.
      what: their flag.
      output: the folder that is written.
      kept: the one thing in it that may be given, since the job writes it again.

    Raises:
      ConfigError: naming the first.
    """
    folders: dict[str, bool] = {}
    for value in values:
        if kept is not None and _normal(value) == _normal(f"{output.rstrip('/')}/{kept}"):
            continue
        folder = value.rpartition("/")[0]
        if folder not in folders:
            folders[folder] = lies_in(folder or ".", output)
        if folders[folder] or (is_local(value) and os.path.islink(value) and lies_in(value, output)):
            raise _inside(f"{what} {value}", output)


def _inside(what: str, output: str) -> ConfigError:
    return ConfigError(
        f"{what}: lies in --output {output}, and would be deleted when the job overwrites that: name another --output, "
        "or move it away"
    )


def lies_in(path: str, folder: str) -> bool:
    """Returns whether a file or folder is a folder or lies below it; neither needs to exist.

    >>> lies_in("gs://b/out//x", "gs://b/out/"), lies_in("gs://b/out2", "gs://b/out"), lies_in("gs://b/x/../out", "GS://b/out")
    (True, False, True)
    """
    if is_local(path) != is_local(folder):
        return False
    inner, outer = _normal(path), _normal(folder)
    if f"{inner}/".startswith(f"{outer.rstrip('/')}/"):
        return True
    return is_local(path) and _is_same_folder_above(inner, folder)


def _is_same_folder_above(path: str, folder: str) -> bool:
    """Compares folders by identity: names may differ by case, or by where a filesystem is mounted."""
    try:
        wanted = os.stat(folder)
    except OSError:
        return False
    while True:
        try:
            if os.path.samestat(os.stat(path), wanted):
                return True
        except OSError:
            pass  # it will be made
        parent = os.path.dirname(path)
        if parent == path:
            return False
        path = parent


def _normal(path: str) -> str:
    if is_local(path):
        return os.path.realpath(path)
    scheme, _, rest = path.partition("://")
    parts: list[str] = []
    for part in rest.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return f"{scheme.lower()}://{'/'.join(parts)}"


def _is_hidden_below(path: str, folder: str) -> bool:
    """Whether the way from a folder down to a path has a name that a listing of the folder leaves out."""
    below = _normal(path).removeprefix(_normal(folder)).strip("/")
    return any(map(is_hidden, below.split("/")))


def _matches(path: str, pattern: str) -> bool:
    """Whether a pattern matches a path that may come, both made absolute."""
    fixed = fixed_folder(pattern)
    whole = f"{_normal(fixed)}/{pattern.removeprefix(fixed).lstrip('/')}"
    folder, _, name = path.rpartition("/")
    real = f"{_normal(folder)}/{name}"
    texts = (whole, whole.replace("/**/", "/"))
    return any(re.fullmatch(_regex(text), real, re.DOTALL) and not is_left_out(real, text) for text in texts)


def _regex(pattern: str) -> str:
    """Translates a pattern as Beam does."""
    pieces = {"**": ".*", "*": "[^/]*", "?": "."}
    tokens = re.findall(r"\*\*|\*|\?|\[!?\]?[^\]]*\]|.", pattern, re.DOTALL)
    return "".join(pieces.get(token) or (_class(token) if len(token) > 2 else re.escape(token)) for token in tokens)


def _class(token: str) -> str:
    # Python warns of what may once be an operation on sets: `[[`, `--`, `&&`, `~~`, `||`.
    inner = re.sub(r"([\\[&~|])", r"\\\1", token[1:-1])
    inner = f"^{inner[1:]}" if inner.startswith("!") else inner
    return f"[{inner}]"
