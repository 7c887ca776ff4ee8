"""Folders of files: class folders, train/val/test folders of them, zip archives in them, or just files."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from flaxtl.data.audio import decode as decode_sound
from flaxtl.data.image import UNREADABLE, ZipMember, decode
from flaxtl.data.selecting import from_paths
from flaxtl.data.source import Source, Splits, natural_key, natural_order
from flaxtl.data.text import read_text
from flaxtl.errors import DataError, listed
from flaxtl.places import expanded

EXTENSIONS = {
    "image": {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"},
    "audio": {".wav", ".flac", ".ogg", ".mp3"},
    "text": {".txt"},
}
SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
BadFile = Literal["error", "skip"]


def modality_of(name: str) -> str | None:
    """Returns what a file holds by its ending, or None.

    Example:
        >>> modality_of('cat.JPG'), modality_of('notes.md')
        ('image', None)
    """
    ending = PurePosixPath(name).suffix.lower()
    return next((kind for kind, endings in EXTENSIONS.items() if ending in endings), None)


def _hidden(*parts: str) -> bool:
    return any(p.startswith((".", "__MACOSX")) for p in parts)


def _files(folder: Path) -> Iterator[Path]:
    """Yields every file below a folder, through links to folders too, but for hidden ones."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}.") from error

    for name, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        here = Path(name)
        # A link to a folder that holds it would be followed for ever.
        real = here.resolve()
        folders[:] = sorted(f for f in folders if not _hidden(f) and not real.is_relative_to((here / f).resolve()))
        yield from (here / n for n in sorted(names) if not _hidden(n))


def _members(folder: Path) -> dict[PurePosixPath, Any]:
    """Returns every data file below a folder by its relative path; archives count as if unpacked."""
    found: dict[PurePosixPath, Any] = {}
    for file in _files(folder):
        inner = PurePosixPath(file.relative_to(folder).as_posix())
        entries: list[tuple[PurePosixPath, Path | ZipMember]] = []
        if file.suffix.lower() == ".zip":
            entries += [(inner.parent / path, member) for path, member in _archive(file)]
        elif modality_of(file.name):
            entries.append((inner, file))
        for path, member in entries:
            if path in found and _content(found[path]) != _content(member):
                raise DataError(f"{found[path]} and {member} are two files for one path, {path}. Rename one of them.")
            found[path] = member
    return found


def _content(member: Path | ZipMember) -> bytes:
    try:
        return member.read() if isinstance(member, ZipMember) else member.read_bytes()
    except UNREADABLE as error:
        raise DataError(f"{member} cannot be read: {error}.") from error


def _archive(file: Path) -> list[tuple[PurePosixPath, ZipMember]]:
    try:
        with zipfile.ZipFile(file) as archive:
            names = [n for n in archive.namelist() if modality_of(n) and not _hidden(*PurePosixPath(n).parts)]
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"The archive {file} cannot be read ({error}). Download or pack it again.") from error
    paths = [PurePosixPath(n) for n in names]
    wrapped = len({p.parts[0] for p in paths}) == 1 and all(len(p.parts) > 2 for p in paths)
    return [
        (PurePosixPath(*p.parts[1:]) if wrapped else p, ZipMember(file, n)) for p, n in zip(paths, names, strict=True)
    ]


def from_folder(path: str | Path, *, classes_by: str | None = None, on_bad_file: BadFile = "error") -> Source | Splits:
    """Reads a folder of class folders, or train/val/test folders of them.

    A class is the path of the folder that directly holds the files. Zip archives in the folder count as if
    unpacked, without a top folder that wraps all of theirs; the same file in two archives counts once. A folder that
    wraps all class folders is no part of their names, and texts beside folders of pictures or sound, such as a
    licence, are not looked at. Every file is read once here, so that a bad one is found before training begins.

    Args:
        path: the folder.
        classes_by: a pattern of paths with {} where the class stands, for files that lie in no class folders: '{}_*'
            takes 7 of 7_jackson_32.wav.
        on_bad_file: "error" stops at an unreadable file and names it, "skip" collects them in `skipped`.

    Returns:
        A source, or `Splits` if the top folders are called train, val (valid, validation) and test.

    Raises:
        DataError: the folder is missing, holds no data, several modalities, a file outside the class folders, or a
            bad file.
    """
    folder = expanded(path)
    if not folder.exists():
        raise DataError(f"There is no folder {folder}. Expected one that holds a folder of files for each class.")
    if not folder.is_dir():
        raise DataError(f"{folder} is a file; expected a folder that holds a folder of files for each class.")
    members = _members(folder)
    if not members:
        raise DataError(
            f"{folder} holds no pictures, sound or text. Expected {folder}/CLASS/FILE, such as {folder}/cat/1.jpg."
        )
    members = _unwrapped(_without_notes(members))
    if {SPLIT_FOLDERS.get(p.parts[0].lower()) for p in members} <= set(SPLIT_FOLDERS.values()):
        return _split_folders(folder, members, classes_by, on_bad_file)
    return _labelled(folder, members, classes_by, on_bad_file)


def _without_notes(members: dict[PurePosixPath, Any]) -> dict[PurePosixPath, Any]:
    """Leaves out the texts at the top where all that lies deeper is of another kind."""
    deep = {modality_of(p.name) for p in members if len(p.parts) > 1}
    if not deep or "text" in deep:
        return members
    return {p: m for p, m in members.items() if len(p.parts) > 1 or modality_of(p.name) != "text"}


def _unwrapped(members: dict[PurePosixPath, Any]) -> dict[PurePosixPath, Any]:
    """Takes folders off that wrap all class folders, unless their name says which part of the data they are."""
    while all(len(p.parts) > 2 for p in members):
        first = {p.parts[0] for p in members}
        if len(first) > 1 or first.pop().lower() in SPLIT_FOLDERS:
            break
        members = {PurePosixPath(*p.parts[1:]): m for p, m in members.items()}
    return members


def _split_folders(
    folder: Path, members: dict[PurePosixPath, Any], classes_by: str | None, on_bad_file: BadFile
) -> Splits:
    parts: dict[str, dict[PurePosixPath, Any]] = {}
    for path, member in members.items():
        part, inner = parts.setdefault(SPLIT_FOLDERS[path.parts[0].lower()], {}), PurePosixPath(*path.parts[1:])
        if inner in part:
            raise DataError(f"{part[inner]} and {member} are of the same part. Keep one folder for it.")
        part[inner] = member
    if "train" not in parts:
        raise DataError(
            f"{folder} holds {listed(sorted(parts))} but no train folder. Add one, or name one of them as the data."
        )
    train = _labelled(folder, parts["train"], classes_by, on_bad_file)
    others = {
        name: _labelled(folder, files, classes_by, on_bad_file, labels=train.labels)
        for name, files in parts.items()
        if name != "train"
    }
    return Splits(train, others.get("validation"), others.get("test"))


def _labelled(
    folder: Path,
    members: dict[PurePosixPath, Any],
    classes_by: str | None,
    on_bad_file: BadFile,
    labels: Sequence[str] | None = None,
) -> Source:
    order = sorted(members, key=lambda p: natural_key(str(p)))
    files = [members[p] for p in order]
    if classes_by is not None:
        names = list(from_paths([str(file) for file in files], classes_by, "label_column"))
        return source_of_files(files, on_bad_file, names, labels)
    names = [str(p.parent) for p in order]
    classes = natural_order(set(names))
    if classes == (".",):
        raise DataError(
            f"{folder} holds no class folders; expected at least two, each a folder with its files in it. "
            "If the files' names say the class, give a pattern of them: `label_column='{}_*'`."
        )
    if "." in classes:
        stray = [members[p] for p in order if len(p.parts) == 1]
        raise DataError(f"{listed(stray, 20)} lies in no class folder. Move or remove it.")
    return source_of_files(files, on_bad_file, names, labels or classes)


def source_of_files(
    files: Sequence[Any],
    on_bad_file: BadFile,
    names: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
) -> Source:
    """Checks files and returns those that can be read as a source.

    Args:
        files: paths and members of archives, of one modality.
        on_bad_file: as in `from_folder`.
        names: the class of each; None leaves them unlabelled.
        labels: the classes in order; by default those of all files, the skipped ones too.

    Raises:
        DataError: several modalities, a bad file, or nothing but bad files.
    """
    modality = modality_of_files(files)
    kept, skipped = readable(files, modality, on_bad_file)
    return Source.of(
        modality,
        [files[i] for i in kept],
        None if names is None else [names[i] for i in kept],
        labels=labels if labels is not None or names is None else natural_order(set(names)),
        keys=[str(files[i]) for i in kept],
        skipped=skipped,
    )


def modality_of_files(files: Sequence[Any]) -> str:
    """Returns what all of the files hold by their endings.

    Raises:
        DataError: they are not of one kind.
    """
    first = {modality_of(str(f)): f for f in reversed(files)}
    if len(first) > 1:
        found = listed(f"{kind} ({file})" for kind, file in sorted(first.items(), key=str))
        raise DataError(f"The files hold {found}; expected one kind. Put them in folders of their own.")
    return str(next(iter(first)))


def readable(entries: Sequence[Any], modality: str, on_bad_file: BadFile) -> tuple[list[int], list[tuple[str, str]]]:
    """Reads every entry once and returns the places of those that can be read, and (name, reason) of the others.

    Raises:
        DataError: a bad entry and `on_bad_file` is "error", or nothing but bad ones.
    """
    kept, skipped = [], []
    for i, reason in enumerate(_defects(entries, modality)):
        if reason is None:
            kept.append(i)
        elif on_bad_file == "skip":
            skipped.append((str(entries[i]), reason))
        else:
            raise DataError(f"{reason} Mend or remove it, or set `on_bad_file='skip'`.")
    if not kept:
        raise DataError(f"All {len(skipped)} files are unreadable, {skipped[0][0]} among them: {skipped[0][1]}")
    return kept, skipped


_CHECKS: dict[str, Callable[[Any], Any]] = {"image": decode, "audio": decode_sound, "text": read_text}


def _defects(files: Sequence[Any], modality: str) -> Iterator[str | None]:
    """Yields what is wrong with each file, or None; a few are read at a time, since decoding takes its time."""
    workers = min(os.cpu_count() or 1, 16)
    with ThreadPoolExecutor(workers) as pool:
        for first in range(0, len(files), 16 * workers):
            yield from pool.map(lambda file: _defect(file, modality), files[first : first + 16 * workers])


def _defect(file: Any, modality: str) -> str | None:
    check = _CHECKS.get(modality)
    if check is None:
        return None
    try:
        check(file)
    except DataError as error:
        return str(error)
    return None


def from_files(
    paths: str | Path | Iterable[str | Path], *, modality: str | None = None, on_bad_file: BadFile = "error"
) -> Source:
    """Reads files and folders without labels, for prediction; folders are searched through.

    Args:
        paths: one or more files and folders.
        modality: what is taken of a folder's files, if it has any such; None takes all, which must be of one kind.
        on_bad_file: as in `from_folder`.

    Raises:
        DataError: a path does not exist, nothing is found, or a bad file.
    """
    given = [paths] if isinstance(paths, (str, Path)) else list(paths)
    files: list[Any] = []
    for entry in map(Path, given):
        entry = entry.expanduser()
        if entry.is_dir():
            members = _members(entry)
            # Where nothing is of the wanted kind, what is there says best what is wrong.
            wanted = [p for p in members if modality in (None, modality_of(p.name))] or list(members)
            files += [members[p] for p in sorted(wanted, key=lambda p: natural_key(str(p)))]
        elif not entry.exists():
            raise DataError(f"There is no file {entry}.")
        elif modality_of(entry.name) is None:
            known = sorted(e for endings in EXTENSIONS.values() for e in endings)
            raise DataError(f"{entry} has an unknown ending; expected one of {listed(known)}.")
        else:
            files.append(entry)
    if not files:
        raise DataError(f"No files were found in {listed(given)}.")
    return source_of_files(files, on_bad_file)
