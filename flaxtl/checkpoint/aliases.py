"""Paths that Orbax can take, whatever a directory is called.

Orbax and tensorstore look for files by patterns and take some paths for URLs, so that in directories such as "a[1]",
"gs:" or one with a backslash they write what they cannot find again. They are given a link with a plain name instead.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PLAIN = re.compile(r"[A-Za-z0-9/._+=,@-]*")


def is_plain(path: str | Path) -> bool:
    """Says whether a path holds only characters that mean nothing to Orbax, tensorstore or a shell.

    Example:
        >>> is_plain('/runs/a-1'), is_plain('/runs/a[1]'), is_plain('/runs/gs:/a')
        (True, False, False)
    """
    return _PLAIN.fullmatch(str(path)) is not None


@contextmanager
def plain(directory: Path) -> Iterator[Path]:
    """Yields a path that leads to a directory and has a plain name: its own, or that of a temporary link to it.

    An error's message tells of the directory, not of the link.
    """
    place = None if is_plain(directory) else _temporary_folder()
    if place is None:
        yield directory
        return
    with tempfile.TemporaryDirectory(prefix="flaxtl-link-", dir=place) as folder:
        link = Path(folder) / "directory"
        os.symlink(directory, link)
        try:
            yield link
        except Exception as error:
            error.args = tuple(a.replace(str(link), str(directory)) if isinstance(a, str) else a for a in error.args)
            raise


def _temporary_folder() -> str | None:
    """Returns a folder for temporary files whose own path is plain, or None."""
    usual = (tempfile.gettempdir(), "/tmp", "/var/tmp")
    return next((place for place in usual if is_plain(place) and os.access(place, os.W_OK)), None)
