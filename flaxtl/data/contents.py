"""What lies in a folder: every file is an example that may be read, or is listed with why it is not."""

from __future__ import annotations

import collections
import dataclasses
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from flaxtl.data.formats import (
    holds_media,
    is_companion,
    is_litter,
    is_litter_folder,
    modality_of,
    modality_of_file,
    why_not_read,
)
from flaxtl.data.image import UNREADABLE, ZipMember
from flaxtl.data.names import printable
from flaxtl.data.part_names import is_unlabelled, part_of
from flaxtl.errors import DataError, listed

_HIDDEN = "it is hidden: its name begins with a dot."
_EMPTY = "the folder is empty, so that it adds nothing."
_HEAD = 64  # bytes, of which signatures are read


class Member(NamedTuple):
    """A file that may be an example, a path or a member of an archive, and its modality."""

    file: Path | ZipMember
    kind: str


class LeftOut(NamedTuple):
    """A file or folder that is no example: its place in the folder, its name, and why."""

    path: PurePosixPath
    name: str
    reason: str


@dataclasses.dataclass(frozen=True, eq=False)
class Contents:
    """What lies in a folder, by paths relative to it; archives count as if unpacked.

    Attributes:
        members: the files that may be examples.
        left: what is none. Files of operating systems and tools, licences and the like are not even listed.
    """

    members: dict[PurePosixPath, Member]
    left: list[LeftOut]

    def below(self, top: PurePosixPath) -> Contents:
        """Returns what lies below a folder, by paths relative to that."""
        members = {p.relative_to(top): m for p, m in self.members.items() if p.is_relative_to(top)}
        inside = [entry for entry in self.left if entry.path.is_relative_to(top)]
        left = [entry._replace(path=entry.path.relative_to(top)) for entry in inside]
        return Contents(members, left)


def contents_of(folder: Path) -> Contents:
    """Returns what lies in a folder, through links to folders too.

    Raises:
        DataError: a folder or an archive that cannot be read, or two different files for one path.
    """
    members: dict[PurePosixPath, Member] = {}
    left: list[LeftOut] = []
    for file in _files(folder, left):
        inner = PurePosixPath(file.relative_to(folder).as_posix())
        if file.suffix.lower() == ".zip":
            entries = _archive(file, inner.parent, left)
        else:
            kind = modality_of_file(file.name, lambda file=file: first_bytes(file))  # type: ignore[misc]
            entries = [(inner, Member(file, kind))] if kind else []
            if not kind and not is_companion(file.name):
                left.append(LeftOut(inner, printable(str(file)), why_not_read(file.name)))
        for path, member in entries:
            if path in members and _content(members[path].file) != _content(member.file):
                both = f"{members[path].file} and {member.file}"
                raise DataError(f"{both} are two files for one path, {path}. Rename one of them.")
            members[path] = member
    return Contents(members, left)


def _files(folder: Path, left: list[LeftOut]) -> Iterator[Path]:
    """Yields every file below a folder; lists what is hidden, and folders that are empty."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}.") from error

    def leave(path: Path, reason: str) -> None:
        left.append(LeftOut(PurePosixPath(path.relative_to(folder).as_posix()), printable(str(path)), reason))

    for name, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        here = Path(name)
        # A link to a folder that holds it would be followed for ever.
        real = here.resolve()
        below = [f for f in sorted(folders) if not is_litter_folder(f)]
        folders[:] = [f for f in below if not f.startswith(".") and not real.is_relative_to((here / f).resolve())]
        files = [n for n in sorted(names) if not is_litter(n)]
        for hidden in (n for n in (*below, *files) if n.startswith(".") and (n in below or modality_of(n))):
            leave(here / hidden, _HIDDEN)
        shown = [n for n in files if not n.startswith(".")]
        if not shown and not below and here != folder:
            leave(here, _EMPTY)
        yield from (here / n for n in shown)


def first_bytes(file: Path) -> bytes:
    """Returns the beginning of a file, in which signatures stand; b"" where it cannot be read."""
    try:
        with file.open("rb") as stream:
            return stream.read(_HEAD)
    except OSError:
        return b""


def _content(member: Path | ZipMember) -> bytes:
    try:
        return member.read() if isinstance(member, ZipMember) else member.read_bytes()
    except UNREADABLE as error:
        raise DataError(f"{member} cannot be read: {error}.") from error


def _archive(file: Path, parent: PurePosixPath, left: list[LeftOut]) -> list[tuple[PurePosixPath, Member]]:
    found: list[tuple[PurePosixPath, Member]] = []
    others: list[LeftOut] = []
    try:
        with zipfile.ZipFile(file) as archive:
            for name in (entry.filename for entry in archive.infolist() if not entry.is_dir()):
                path = PurePosixPath(name.replace("\\", "/"))  # as some archives of Windows have it
                if any(map(is_litter_folder, path.parts)) or is_litter(path.name):
                    continue
                if any(part.startswith(".") for part in path.parts):
                    if modality_of(path.name):
                        others.append(LeftOut(path, printable(f"{file}/{name}"), _HIDDEN))
                    continue
                kind = modality_of_file(path.name, lambda name=name: _head_of_member(archive, name))  # type: ignore[misc]
                if kind:
                    found.append((path, Member(ZipMember(file, name), kind)))
                elif not is_companion(path.name):
                    others.append(LeftOut(path, printable(f"{file}/{name}"), why_not_read(path.name)))
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"The archive {file} cannot be read ({error}). Download or pack it again.") from error
    first = {path.parts[0] for path, _ in found}
    wrapped = len(first) == 1 and all(len(path.parts) > 2 for path, _ in found) and not any(map(part_of, first))
    # train.zip and test.zip are the parts, whether or not a folder in them says so once more.
    if (part_of(file.stem) and not any(map(part_of, first))) or (is_unlabelled(file.stem) and found):
        parent = parent / file.stem

    def placed(path: PurePosixPath) -> PurePosixPath:
        return parent / (PurePosixPath(*path.parts[1:]) if wrapped and path.parts[0] in first else path)

    left += [entry._replace(path=placed(entry.path)) for entry in others]
    return [(placed(path), member) for path, member in found]


def _head_of_member(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        with archive.open(name) as stream:
            return stream.read(_HEAD)
    except UNREADABLE:
        return b""


def without_companions(found: Contents) -> Contents:
    """Leaves texts out that only tell of the data: at the top beside pictures or sound, or by their names."""
    deep = {m.kind for p, m in found.members.items() if len(p.parts) > 1}
    others = {m.kind for m in found.members.values()} - {"text"}
    members, left = dict(found.members), list(found.left)
    for path, member in found.members.items():
        if member.kind != "text":
            continue
        top = len(path.parts) == 1
        if is_companion(path.name) and (others or (top and deep)):
            del members[path]
        elif top and deep and "text" not in deep:
            del members[path]
            left.append(LeftOut(path, printable(str(member.file)), "it is a text beside folders of other data."))
    return Contents(members, left)


def skipped_notes(skipped: Sequence[tuple[str, str]], whose: str = "") -> list[str]:
    """Returns a sentence for the unreadable files, and one for each reason for which others were left out.

    Args:
        skipped: (path, reason), as a source lists them.
        whose: " of the test data", where that is to be said.

    Example:
        >>> skipped_notes([('a/1.m4a', why_not_read('1.m4a'))])[0][:41]
        "1 file was left out, a/1.m4a: '.m4a' cann"
    """
    # What is wrong with one file names it; the reasons that many share do not.
    unreadable = [path for path, reason in skipped if path in reason]
    shared: dict[str, list[str]] = collections.defaultdict(list)
    for path, reason in skipped:
        if path not in reason:
            shared[reason].append(path)
    notes = [f"{len(unreadable)} unreadable files{whose} were skipped: {listed(unreadable)}."] if unreadable else []
    for reason, paths in shared.items():
        one, noun = len(paths) == 1, "folder" if reason == _EMPTY else "file"
        count = f"1 {noun}{whose} was" if one else f"{len(paths)} {noun}s{whose} were"
        notes.append(f"{count} left out, {listed(paths, 3)}: {reason}")
    return notes


def media_folders(found: Contents) -> dict[PurePosixPath, list[LeftOut]]:
    """Returns the folders that hold files which may be examples, none of which can be read."""
    read = {path.parent for path in found.members}
    folders: dict[PurePosixPath, list[LeftOut]] = collections.defaultdict(list)
    for entry in found.left:
        if entry.path.parent not in read and len(entry.path.parts) > 1 and holds_media(entry.path.name):
            folders[entry.path.parent].append(entry)
    return folders
