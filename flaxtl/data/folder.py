"""Folders of files: class folders, train/val/test folders of them, zip archives in them, or just files."""

from __future__ import annotations

import collections
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath

from flaxtl.data.cells import is_missing
from flaxtl.data.contents import Contents, LeftOut, Member, contents_of, media_folders, without_companions
from flaxtl.data.doubts import doubtful_places
from flaxtl.data.files import BadFile, from_files, modality_of_files, ordered, readable, source_of_members
from flaxtl.data.formats import modality_of
from flaxtl.data.names import canonical_name, printable, similarity_notes
from flaxtl.data.part_names import SPLIT_FOLDERS, is_unlabelled, part_of
from flaxtl.data.parts import layout_of, parts_named, refuse_folds
from flaxtl.data.patterns import PathPattern, ambiguity_notes, from_paths
from flaxtl.data.source import Source, Splits, natural_order
from flaxtl.errors import DataError, listed
from flaxtl.places import expanded

__all__ = ["SPLIT_FOLDERS", "BadFile", "from_files", "from_folder", "modality_of", "modality_of_files", "readable"]


_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")


def from_folder(
    path: str | Path,
    *,
    classes_by: str | None = None,
    on_bad_file: BadFile = "error",
    split: str | None = None,
    classes: Collection[str] = (),
) -> Source | Splits:
    """Reads a folder of class folders, or train/val/test folders of them.

    A class is the path of the folder that directly holds the files. Zip archives in the folder count as if
    unpacked, without a top folder that wraps all of theirs; the same file in two archives counts once. A folder that
    wraps all class folders is no part of their names, and texts beside folders of pictures or sound, such as a
    licence, are not looked at. Every file is read once here, so that a bad one is found before training begins.
    Whatever else lies in the folder is listed in `skipped` with the reason, but for the files of operating systems
    and tools, licences and checksums. A folder called unlabeled, unknown, unsorted or alike beside class folders is
    left out.

    Args:
        path: the folder.
        classes_by: a pattern of paths with {} where the class stands, for files that lie in no class folders:
            '{}_*_*' takes 7 of 7_jackson_32.wav. See `from_paths`.
        on_bad_file: "error" stops at an unreadable file and names it, "skip" collects them in `skipped`.
        split: the top folders that are the parts, where their names do not say it: "train=a,test=b", or the one to
            read.
        classes: names of folders that are classes even if they are called like a part of a data set or "unknown".

    Returns:
        A source, or `Splits` if the top folders are called train, val (valid, dev, validation_set, …) and test.

    Raises:
        DataError: the folder is missing, holds no data, several modalities, a file outside the class folders, a class
            folder none of whose files can be read, a bad file, or folders that can be read in more than one way.
    """
    folder = expanded(path)
    if not folder.exists():
        raise DataError(f"There is no folder {folder}. Expected one that holds a folder of files for each class.")
    if not folder.is_dir():
        raise DataError(f"{folder} is a file; expected a folder that holds a folder of files for each class.")
    found = without_companions(contents_of(folder))
    if not found.members:
        raise DataError(_nothing_found(folder, found))
    known = frozenset(part for name in classes for part in (canonical_name(name), canonical_name(name).split("/")[0]))
    reader = _Reader(folder, classes_by, on_bad_file, known)
    _refuse_unread_folders(folder, found, on_bad_file)
    place, found = _unwrapped(folder, found, known)
    tops = {p.parts[0] for p in found.members if len(p.parts) > 1}
    if split is not None and (split != "all" or "all" in tops):
        return reader.chosen(place, found, parts_named(place, tops, split), split)
    layout = layout_of(place, found, known, patterned=classes_by is not None)
    if layout.parts:
        return reader.parts(place, found, layout.parts, layout.aside)
    return reader.labelled(place, found, notes=layout.notes)


def _nothing_found(folder: Path, found: Contents) -> str:
    expected = f"Expected {folder}/CLASS/FILE, such as {folder}/cat/1.jpg."
    if not found.left:
        return f"{folder} holds no pictures, sound or text. {expected}"
    reasons = list(dict.fromkeys(entry.reason for entry in found.left))
    reason = reasons[0]
    return (
        f"{folder} holds no pictures, sound or text that can be read, but {len(found.left)} other files, such as "
        f"{found.left[0].name}: {reason} {expected}"
    )


def _refuse_unread_folders(folder: Path, found: Contents, on_bad_file: BadFile) -> None:
    """Refuses folders of pictures, sound or archives none of which can be read: a class would vanish."""
    unread = media_folders(found)
    if unread and on_bad_file == "error":
        entries = next(iter(unread.values()))
        raise DataError(
            f"None of the files in {listed((str(folder / p) for p in unread), 4)} can be read, such as "
            f"{entries[0].name}: {entries[0].reason} To go on without them, use on_bad_file='skip'."
        )


def _unwrapped(place: Path, found: Contents, classes: Collection[str]) -> tuple[Path, Contents]:
    """Takes folders off that wrap all class folders, unless their name says which part of the data they are."""
    while found.members and all(len(p.parts) > 2 for p in found.members):
        first = {p.parts[0] for p in found.members}
        name = next(iter(first))
        if len(first) > 1 or part_of(name) or name in classes:
            break
        place, found = place / name, _inside(found, name)
    return place, found


def _inside(found: Contents, top: str) -> Contents:
    """Returns what lies in a top folder that holds all members; what was left out beside it stays listed."""
    below = found.below(PurePosixPath(top))
    beside = [entry for entry in found.left if not entry.path.is_relative_to(top)]
    return Contents(below.members, below.left + beside)


class _Reader:
    """Makes sources of what lies in a folder, as `from_folder` is asked to."""

    def __init__(self, folder: Path, pattern: str | None, on_bad_file: BadFile, classes: Collection[str]) -> None:
        self.folder, self.pattern, self.on_bad_file, self.classes = folder, pattern, on_bad_file, classes

    def chosen(self, place: Path, found: Contents, parts: Mapping[str, Sequence[str]], split: str) -> Source | Splits:
        """Reads the parts that a user names; of a lone one, the classes are in the order of the training part."""
        tops = natural_order({path.parts[0] for path in found.members if len(path.parts) > 1})
        lone = part_of(split) if "=" not in split else None
        learned = [top for top in tops if part_of(top) == "train"]
        if lone not in (None, "train") and learned:
            parts = {"train": learned, str(lone): parts["train"]}
        used = {top for some in parts.values() for top in some}
        read = self.parts(place, found, parts, [top for top in tops if top not in used])
        return read.train if len(parts) == 1 else read.parts[str(lone)] if lone else read

    def parts(self, place: Path, found: Contents, parts: Mapping[str, Sequence[str]], aside: Sequence[str]) -> Splits:
        """Reads each part; what lies aside is listed as left out."""
        if not set(parts) & {"train"}:
            empty = [str(e.path) for e in found.left if len(e.path.parts) == 1 and part_of(e.path.name) == "train"]
            raise DataError(
                f"{place} holds {listed(sorted(parts))} but no train folder"
                f"{f' with files in it: {empty[0]} is empty' if empty else ''}. "
                "Add one, or name one of them as the data."
            )
        inner = _same_wrapping({part: _joined(found, tops) for part, tops in parts.items()})
        left = [e for e in found.left if e.path.parts[0] not in {t for tops in parts.values() for t in tops}]
        left += [e for top in aside for e in _left_aside(found, top)]
        stray = {path: str(member.file) for path, member in found.members.items() if len(path.parts) == 1}
        left += [LeftOut(path, printable(name), "it lies beside the part folders.") for path, name in stray.items()]
        inner["train"] = Contents(inner["train"].members, inner["train"].left + left)
        sources: dict[str, Source] = {}
        for part in ("train", "validation", "test"):
            if part in inner:
                where = place / parts[part][0]
                labels = sources["train"].labels if sources else None
                sources[part] = self.labelled(where, inner[part], labels=labels, part=part)
        return Splits(**sources)

    def labelled(
        self,
        place: Path,
        found: Contents,
        *,
        labels: Sequence[str] | None = None,
        part: str | None = None,
        notes: Sequence[str] = (),
    ) -> Source:
        """Reads files of one part with their classes."""
        if self.pattern is not None:
            found = self._without_unmatched(found, self.pattern)
            order, files = ordered(found)
            paths = [printable(str(member.file)) for member in files]
            names = list(from_paths(paths, self.pattern, "`label_column`"))
            notes = [*notes, *ambiguity_notes(paths, self.pattern, "label_column")]
            return self._source(files, names, labels, found.left, notes)
        found = self._without_unlabelled(place, found, least=2 if labels is None else 1)
        if all(len(path.parts) == 1 for path in found.members):
            raise DataError(_no_class_folders(place, found, len(found.members), part))
        found = self._without_strays(found)
        order, files = ordered(found)
        names = [canonical_name(str(p.parent)) for p in order]
        refuse_folds(place, {path.parts[0] for path in order}, self.classes)
        return self._source(files, names, labels, found.left, [*notes, *_form_notes(order)])

    def _source(
        self,
        files: Sequence[Member],
        names: Sequence[str],
        labels: Sequence[str] | None,
        left: Sequence[LeftOut],
        notes: Sequence[str],
    ) -> Source:
        order = labels or natural_order(set(names))
        similar = [*similarity_notes(order), *_odd_class_notes(order, self.classes)] if labels is None else []
        return source_of_members(files, self.on_bad_file, left, names=names, labels=order, notes=[*notes, *similar])

    def _without_unmatched(self, found: Contents, pattern: str) -> Contents:
        """Leaves files out whose path has no class by the pattern, where bad files are to be skipped."""
        if self.on_bad_file == "error":
            return found
        compiled = PathPattern.of(pattern, "`label_column`")
        odd = {p: m for p, m in found.members.items() if not compiled.readings(printable(str(m.file)))}
        if len(odd) == len(found.members):
            return found  # told of where the classes are read
        left = [LeftOut(p, printable(str(m.file)), f"{pattern!r} does not match its name.") for p, m in odd.items()]
        return Contents({p: m for p, m in found.members.items() if p not in odd}, found.left + left)

    def _without_strays(self, found: Contents) -> Contents:
        """Refuses files that lie in no class folder, or leaves them out where bad files are to be skipped."""
        stray = {path: member for path, member in found.members.items() if len(path.parts) == 1}
        if stray and self.on_bad_file == "error":
            files = listed((member.file for member in stray.values()), 3)
            raise DataError(f"{files} lies in no class folder. Move or remove it, or set `on_bad_file='skip'`.")
        left = [LeftOut(p, printable(str(m.file)), "it lies in no class folder.") for p, m in stray.items()]
        return Contents({p: m for p, m in found.members.items() if p not in stray}, found.left + left)

    def _without_unlabelled(self, place: Path, found: Contents, *, least: int) -> Contents:
        """Leaves folders out whose name says that their files have no labels, where there are classes beside them."""
        held = {
            path: next(name for name in path.parts[:-1] if is_unlabelled(name))
            for path in found.members
            if any(is_unlabelled(name) and canonical_name(name) not in self.classes for name in path.parts[:-1])
        }
        if not held:
            return found
        members = {path: member for path, member in found.members.items() if path not in held}
        names = {path: printable(str(found.members[path].file)) for path in held}
        left = [LeftOut(path, names[path], _unlabelled_reason(top)) for path, top in held.items()]
        classes = {path.parent for path in members}
        if len(classes) < least:
            tops = natural_order({*held.values()})
            raise DataError(
                f"{place} holds the folder {listed(tops)}, which is taken for examples without labels, and "
                f"{len(classes)} class folders beside it; expected at least {least}. If it is a class, say so with "
                f"classes={[f'{name}={name}' for name in tops]}."
            )
        return Contents(members, found.left + left)


def _unlabelled_reason(top: str) -> str:
    return (
        f"the folder {top!r} is taken for examples without labels. If it is a class, say so with "
        f"classes={[f'{top}={top}']}."
    )


def _left_aside(found: Contents, top: str) -> list[LeftOut]:
    reason = (
        _unlabelled_reason(top)
        if is_unlabelled(top)
        else f"the folder {top!r} lies beside the part folders and is none of them."
    )
    return [
        LeftOut(path, printable(str(member.file)), reason)
        for path, member in found.members.items()
        if path.parts[0] == top
    ]


def _joined(found: Contents, tops: Sequence[str]) -> Contents:
    """Returns what lies in the folders of one part, by paths in them."""
    members: dict[PurePosixPath, Member] = {}
    left: list[LeftOut] = []
    for top in tops:
        below = found.below(PurePosixPath(top))
        for path, member in below.members.items():
            if path in members:
                raise DataError(f"{members[path].file} and {member.file} are of the same part. Keep one folder for it.")
            members[path] = member
        left += below.left
    return Contents(members, left)


def _same_wrapping(parts: dict[str, Contents]) -> dict[str, Contents]:
    """Takes folders off that wrap a part's class folders: test/test/cat, or images/ in all parts alike."""

    def wrapper(found: Contents) -> str | None:
        first = {path.parts[0] for path in found.members}
        deep = all(len(path.parts) > 2 for path in found.members)
        return next(iter(first)) if deep and len(first) == 1 else None

    while True:
        wraps = {part: wrapper(found) for part, found in parts.items()}
        own = {part for part, name in wraps.items() if name and part_of(name) == part}
        taken = set(parts) if all(wraps.values()) else own
        if not taken:
            return parts
        parts = {part: _inside(found, wraps[part] or "") if part in taken else found for part, found in parts.items()}


def _odd_class_notes(order: Sequence[str], known: Collection[str]) -> list[str]:
    """Says which classes may stand for no label, and which lie in a folder between classes of the same names."""
    doubtful = {order[i] for i in doubtful_places(order)} | {name for name in order if is_missing(name)}
    notes = [
        f"{name!r} is read as a class. If it stands for examples without labels, leave them out with "
        f"classes={[f'{name}=']!r}."
        for name in order
        if name in doubtful and name not in known
    ]
    again = [name for name in order if "/" in name and name.rpartition("/")[2] in order]
    if again:
        first, last = again[0], again[0].rpartition("/")[2]
        notes.append(
            f"The folders {listed(again)} are called like classes beside them and are read as classes of their own. "
            f"Merge them, such as with classes={[f'{first}={last}']!r}, or leave them out with "
            f"classes={[f'{first}=']!r}."
        )
    return notes


def _form_notes(paths: Sequence[PurePosixPath]) -> list[str]:
    """Says which folders are one class because their names differ in the Unicode form alone."""
    forms: dict[str, set[str]] = collections.defaultdict(set)
    for path in paths:
        forms[canonical_name(str(path.parent))].add(str(path.parent))
    merged = natural_order(name for name, spelled in forms.items() if len(spelled) > 1)
    return [
        f"{len(forms[name])} folders are called {name!r}, in different Unicode forms of the same letters; they are one "
        "class."
        for name in merged
    ]


def _no_class_folders(place: Path, found: Contents, count: int, part: str | None) -> str:
    tables = [entry.name for entry in found.left if PurePosixPath(entry.name).suffix.lower() in _TABLES]
    table = f" If {tables[0]} holds the labels, name it as the data." if tables else ""
    if part not in (None, "train"):
        return (
            f"The {part} part {place} holds {count} files but no class folders, so that they have no labels. Leave it "
            f"out with split='train', or name the train folder as the data.{table}"
        )
    return (
        f"{place} holds no class folders; expected at least two, each a folder with its files in it. "
        f"If the files' names say the class, give a pattern of them: `label_column='{{}}_*'`.{table}"
    )
