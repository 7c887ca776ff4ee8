"""Files of one modality: each is read once to see that it can be, and they become a source."""

from __future__ import annotations

import collections
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from flaxtl.data.audio import decode as decode_sound
from flaxtl.data.contents import Contents, LeftOut, Member, contents_of, first_bytes, without_companions
from flaxtl.data.formats import is_companion, modality_of, modality_of_file, readable_endings, why_not_read
from flaxtl.data.image import decode
from flaxtl.data.names import is_utf8, printable
from flaxtl.data.source import Source, natural_key
from flaxtl.data.text import read_text
from flaxtl.errors import DataError, listed
from flaxtl.places import expanded

BadFile = Literal["error", "skip"]
# Where one kind has at least this many times the files of all others together, the others are strays.
_FEW = 3


def ordered(found: Contents) -> tuple[list[PurePosixPath], list[Member]]:
    """Returns the paths and members of a folder in natural order."""
    order = sorted(found.members, key=lambda p: natural_key(str(p)))
    return order, [found.members[path] for path in order]


def source_of_members(
    files: Sequence[Member],
    on_bad_file: BadFile,
    left: Sequence[LeftOut],
    *,
    names: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    notes: Sequence[str] = (),
) -> Source:
    """Checks files and returns those that can be read as a source; the classes are those of the skipped ones too."""
    if on_bad_file == "skip":
        files, names, left = _of_main_kind(files, names, left)
    modality = _one_kind(files)
    raw = [member.file for member in files]
    kept, skipped = readable(raw, modality, on_bad_file)
    odd = [name for name in map(str, raw) if not is_utf8(name)]
    if odd:
        notes = [*notes, f"{len(odd)} file names are not UTF-8; they are shown as {printable(odd[0])}, and are read."]
    return Source.of(
        modality,
        [raw[i] for i in kept],
        None if names is None else [names[i] for i in kept],
        labels=labels,
        keys=[printable(str(raw[i])) for i in kept],
        skipped=[*skipped, *((entry.name, entry.reason) for entry in left)],
        notes=notes,
    )


def _of_main_kind(
    files: Sequence[Member], names: Sequence[str] | None, left: Sequence[LeftOut]
) -> tuple[Sequence[Member], Sequence[str] | None, Sequence[LeftOut]]:
    """Leaves single files of another kind out, where most are of one kind."""
    counts = collections.Counter(member.kind for member in files).most_common()
    kind, most = counts[0]
    if len(counts) < 2 or _FEW * (len(files) - most) > most:
        return files, names, left
    kept = [i for i, member in enumerate(files) if member.kind == kind]
    others = [
        LeftOut(PurePosixPath(str(member.file)), printable(str(member.file)), f"it holds {member.kind}, not {kind}.")
        for member in files
        if member.kind != kind
    ]
    return [files[i] for i in kept], names and [names[i] for i in kept], [*left, *others]


def _one_kind(files: Sequence[Member]) -> str:
    first = {member.kind: member.file for member in reversed(files)}
    if len(first) > 1:
        found = listed(f"{kind} ({file})" for kind, file in sorted(first.items(), key=str))
        raise DataError(f"The files hold {found}; expected one kind. Put them in folders of their own.")
    return next(iter(first))


def modality_of_files(files: Sequence[Any]) -> str:
    """Returns what all of the files hold by their endings.

    Raises:
        DataError: they are not of one kind.
    """
    return _one_kind([Member(file, str(modality_of(str(file)))) for file in files])


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
            skipped.append((printable(str(entries[i])), printable(reason)))
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

    Returns:
        A source; the files of folders that are no examples are listed in `skipped`, as by `from_folder`.

    Raises:
        DataError: a path does not exist, nothing is found, or a bad file.
    """
    given = [paths] if isinstance(paths, (str, Path)) else list(paths)
    files: list[Member] = []
    left: list[LeftOut] = []
    for entry in map(expanded, given):
        if entry.is_dir():
            found = contents_of(entry) if modality else without_companions(contents_of(entry))
            order, members = ordered(found)
            wanted = [member.kind in (modality, None) or modality is None for member in members]
            # Where nothing is of the wanted kind, what is there says best what is wrong.
            taken = wanted if any(wanted) else [True] * len(members)
            files += [member for member, take in zip(members, taken, strict=True) if take]
            left += found.left
            left += [
                LeftOut(path, printable(str(member.file)), f"it holds {member.kind}, not {modality}.")
                for path, member, take in zip(order, members, taken, strict=True)
                if not take and not is_companion(path.name)
            ]
        elif not entry.exists():
            raise DataError(f"There is no file {entry}.")
        else:
            files.append(_single(entry))
    if not files:
        reasons = [f" {entry.name} was left out: {entry.reason}" for entry in left[:1]]
        raise DataError(f"No files were found in {listed(given)}.{''.join(reasons)}")
    return source_of_members(files, on_bad_file, left)


def _single(file: Path) -> Member:
    kind = modality_of_file(file.name, lambda: first_bytes(file))
    if kind is None:
        known = sorted(e for endings in readable_endings().values() for e in endings)
        raise DataError(
            f"{file} has an unknown ending: {why_not_read(file.name)} Expected one of {listed(known, len(known))}."
        )
    return Member(file, kind)
