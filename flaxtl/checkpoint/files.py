"""Directories that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flaxtl.errors import CheckpointError, listed
from flaxtl.places import expanded


class NotWrittenError(CheckpointError):
    """Nothing could be written to a place; `reason` says why, without the place."""

    def __init__(self, place: Path, reason: str) -> None:
        super().__init__(
            f"{place} could not be written: {reason}. What was there before is unchanged. "
            "Free some space or choose another place."
        )
        self.reason = reason


@contextmanager
def new_directory(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields a fresh directory beside `path` and, when the block succeeds, renames it into place.

    An earlier directory is moved aside before and deleted after. Should the machine stop between these two
    renames, it lies complete beside its place as ``.NAME.replaced-…`` and the new one as ``.NAME.partial-…``,
    which is then complete too; renaming either to NAME mends it. A process killed earlier leaves only
    ``.NAME.partial-…``, which can be deleted.

    Args:
        path: the final place.
        overwrite: whether an earlier directory may be replaced.

    Raises:
        CheckpointError: the place is taken, or writing failed (a full disk, say); what was there before is
            whole, and nothing half-written is left.
    """
    path = Path(os.path.abspath(expanded(path)))
    try:
        path = Path(os.path.realpath(path)) if path.is_symlink() else path  # what a link leads to is replaced, not it
        taken = _taken(path)
    except (OSError, ValueError) as error:  # a name that is too long, or holds the character 0
        raise NotWrittenError(path, getattr(error, "strerror", None) or str(error)) from error
    if taken and not overwrite:
        raise CheckpointError(f"{path} already exists. Choose another place, or allow it to be replaced (`overwrite`).")
    mark = uuid.uuid4().hex[:8]
    fresh, old = (path.parent / f"{_beside(path, kind)}{mark}" for kind in ("partial", "replaced"))
    try:
        fresh.mkdir(parents=True)
        yield fresh
        _flush(fresh)
        if path.exists():
            os.rename(path, old)
        os.rename(fresh, path)
    except (OSError, NotWrittenError) as error:
        reason = error.reason if isinstance(error, NotWrittenError) else str(error)
        raise NotWrittenError(path, reason) from error
    finally:
        if old.exists() and not path.exists():
            os.rename(old, path)
        shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _taken(path: Path) -> bool:
    """Says whether something is there that a save would destroy; an empty directory is not."""
    return path.exists() and not (path.is_dir() and not any(path.iterdir()))


def _beside(path: Path, kind: str) -> str:
    """Returns how the names of an interrupted save's directories begin, short enough for a file system."""
    return os.fsdecode(os.fsencode(f".{path.name}")[:220]) + f".{kind}-"


def _flush(folder: Path) -> None:
    """Has a folder's files put on the disk, so that a rename cannot overtake their contents."""
    for file in [p for p in folder.rglob("*") if p.is_file()]:
        with open(file, "rb") as stream:
            os.fsync(stream.fileno())


def set_aside(path: Path) -> str:
    """Returns a sentence about complete copies that an interrupted save left beside `path`, or nothing."""
    beginning = _beside(path, "replaced")
    left = sorted(p for p in path.parent.iterdir() if p.name.startswith(beginning)) if path.parent.is_dir() else []
    if not left:
        return ""
    return f" An interrupted save moved what was there to {listed(left)}; rename it to {path.name!r} to use it."
