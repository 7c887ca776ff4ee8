"""Folders of files: class folders, train/val/test folders of them, zip archives in them, or just files."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from flaxtl.data.image import ZipMember, decode
from flaxtl.data.source import Source, Splits, natural_key, natural_order
from flaxtl.errors import DataError, listed

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


def _hidden(parts: Iterable[str]) -> bool:
    return any(p.startswith((".", "__MACOSX")) for p in parts)


def _members(folder: Path) -> dict[PurePosixPath, Any]:
    """Returns every data file below a folder by its relative path; archives count as if unpacked."""
    found: dict[PurePosixPath, Any] = {}
    for file in sorted(folder.rglob("*")):
        inner = PurePosixPath(file.relative_to(folder).as_posix())
        if not file.is_file() or _hidden(inner.parts):
            continue
        if file.suffix.lower() == ".zip":
            found.update((inner.parent / path, member) for path, member in _archive(file))
        elif modality_of(file.name):
            found[inner] = file
    return found


def _archive(file: Path) -> list[tuple[PurePosixPath, ZipMember]]:
    try:
        with zipfile.ZipFile(file) as archive:
            names = [n for n in archive.namelist() if modality_of(n) and not _hidden(PurePosixPath(n).parts)]
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"The archive {file} cannot be read ({error}). Download or pack it again.") from error
    paths = [PurePosixPath(n) for n in names]
    wrapped = len({p.parts[0] for p in paths}) == 1 and all(len(p.parts) > 2 for p in paths)
    return [
        (PurePosixPath(*p.parts[1:]) if wrapped else p, ZipMember(file, n)) for p, n in zip(paths, names, strict=True)
    ]


def from_folder(path: str | Path, *, on_bad_file: BadFile = "error") -> Source | Splits:
    """Reads a folder of class folders, or train/val/test folders of them.

    A class is the path of the folder that directly holds the files. Zip archives in the folder count as if
    unpacked, without a top folder that wraps all of theirs; the same path in two archives counts once.
    Every picture is decoded once here, so that a bad one is found before training begins.

    Args:
        path: the folder.
        on_bad_file: "error" stops at an unreadable file and names it, "skip" collects them in `skipped`.

    Returns:
        A source, or `Splits` if the top folders are called train, val (valid, validation) and test.

    Raises:
        DataError: the folder is missing, holds no data, one class, several modalities, or a bad file.
    """
    folder = Path(path).expanduser()
    if not folder.exists():
        raise DataError(f"There is no folder {folder}. Expected one that holds a folder of files for each class.")
    if not folder.is_dir():
        raise DataError(f"{folder} is a file; expected a folder that holds a folder of files for each class.")
    members = _members(folder)
    if not members:
        raise DataError(
            f"{folder} holds no pictures, sound or text. Expected {folder}/CLASS/FILE, such as {folder}/cat/1.jpg."
        )
    tops = {p.parts[0] for p in members}
    if tops <= set(SPLIT_FOLDERS) and all(len(p.parts) > 2 for p in members):
        return _split_folders(folder, members, on_bad_file)
    return _labelled(folder, members, on_bad_file)


def _split_folders(folder: Path, members: dict[PurePosixPath, Any], on_bad_file: BadFile) -> Splits:
    parts: dict[str, dict[PurePosixPath, Any]] = {}
    for path, member in members.items():
        parts.setdefault(SPLIT_FOLDERS[path.parts[0]], {})[PurePosixPath(*path.parts[1:])] = member
    if "train" not in parts:
        raise DataError(
            f"{folder} holds {listed(sorted(parts))} but no train folder. Add one, or name one of them as the data."
        )
    train = _labelled(folder, parts["train"], on_bad_file)
    others = {
        name: _labelled(folder, files, on_bad_file, labels=train.labels)
        for name, files in parts.items()
        if name != "train"
    }
    return Splits(train, others.get("validation"), others.get("test"))


def _labelled(
    folder: Path, members: dict[PurePosixPath, Any], on_bad_file: BadFile, labels: Sequence[str] | None = None
) -> Source:
    order = sorted(members, key=lambda p: natural_key(str(p)))
    classes = natural_order({str(p.parent) for p in order})
    if labels is None and len(classes) < 2:
        where = "no class folders" if classes == (".",) else f"the one class {classes[0]!r}"
        raise DataError(f"{folder} holds {where}; expected at least two, each a folder with its files in it.")
    source = checked_files([members[p] for p in order], on_bad_file)
    names = {key_of(members[p]): str(p.parent) for p in order}
    return Source.of(
        source.modality,
        source.raw,
        [names[key] for key in source.keys],
        labels=labels or classes,
        keys=source.keys,
        skipped=source.skipped,
    )


def key_of(raw: Any) -> str:
    """Returns what identifies a file: its path, or 'archive.zip/member'."""
    return str(raw)


def checked_files(files: Sequence[Any], on_bad_file: BadFile) -> Source:
    """Checks files and returns those that can be read as an unlabelled source of one modality."""
    kinds = {modality_of(key_of(f)) for f in files}
    if len(kinds) > 1:
        raise DataError(
            f"The files hold {listed(sorted(str(k) for k in kinds))}; expected one kind. Put them in folders of their own."
        )
    modality = str(kinds.pop())
    kept, skipped = [], []
    for file in files:
        reason = _defect(file, modality)
        if reason is None:
            kept.append(file)
        elif on_bad_file == "skip":
            skipped.append((key_of(file), reason))
        else:
            raise DataError(f"{reason} Mend or remove it, or use --on-bad-file skip.")
    if not kept:
        raise DataError(f"All {len(skipped)} files are unreadable, {skipped[0][0]} among them: {skipped[0][1]}")
    return Source.of(modality, kept, keys=[key_of(f) for f in kept], skipped=skipped)


def _defect(file: Any, modality: str) -> str | None:
    if modality != "image":
        return None
    try:
        decode(file)
    except DataError as error:
        return str(error)
    return None


def from_files(paths: str | Path | Iterable[str | Path], *, on_bad_file: BadFile = "error") -> Source:
    """Reads files and folders without labels, for prediction; folders are searched through.

    Args:
        paths: one or more files and folders.
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
            files += [members[p] for p in sorted(members, key=lambda p: natural_key(str(p)))]
        elif not entry.exists():
            raise DataError(f"There is no file {entry}.")
        elif modality_of(entry.name) is None:
            known = sorted(e for endings in EXTENSIONS.values() for e in endings)
            raise DataError(f"{entry} has an unknown ending; expected one of {listed(known, 20)}.")
        else:
            files.append(entry)
    if not files:
        raise DataError(f"No files were found in {listed(given)}.")
    return checked_files(files, on_bad_file)
