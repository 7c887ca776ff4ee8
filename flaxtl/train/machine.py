"""The memory of this machine: what a process may hold, what it holds, what it held at its peak."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")
_BOUNDLESS = 2**60  # what version 1 of control groups says where there is no limit


def resident(root: Path = _ROOT) -> int | None:
    """Returns the bytes that this process holds; None where the system does not say.

    Example:
        >>> held = resident()
        >>> held is None or held > 2**20
        True
    """
    return _line(root / "proc/self/status", "VmRSS")


def peak(root: Path = _ROOT) -> int | None:
    """Returns the most bytes that this process has held; None where the system does not say.

    Unlike `resource.getrusage`, whose figure a process inherits from the one that started it.
    """
    return _line(root / "proc/self/status", "VmHWM")


def total(root: Path = _ROOT) -> int:
    """Returns the bytes that this process may hold: the machine's, or the smallest limit of its control groups."""
    there = _line(root / "proc/meminfo", "MemTotal") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([there, *(limit for limit, _ in _groups(root))])


def free(root: Path = _ROOT) -> int | None:
    """Returns the bytes that this process may hold besides what it holds; None where the system does not say."""
    there = _line(root / "proc/meminfo", "MemAvailable")
    if there is None:
        return None
    return max(0, min([there, *(limit - used for limit, used in _groups(root))]))


def _line(file: Path, name: str) -> int | None:
    """Returns the bytes of a line such as "VmRSS:  1024 kB"."""
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", file.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else int(found[1]) * 1024


def _groups(root: Path) -> Iterator[tuple[int, int]]:
    """Yields (limit, used) of each control group that this process is in, files that can be dropped not counted."""
    for folder, names in _folders(root):
        limit, used = (_number(folder / name) for name in names)
        if limit is not None and used is not None and limit < _BOUNDLESS:
            yield limit, max(0, used - _droppable(folder))


def _folders(root: Path) -> Iterator[tuple[Path, tuple[str, str]]]:
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    base = root / "sys/fs/cgroup"
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            place, names = base, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            place, names = base / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        inner = Path(path.lstrip("/"))
        yield from ((place / part, names) for part in (inner, *inner.parents))


def _number(file: Path) -> int | None:
    try:
        text = file.read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _droppable(folder: Path) -> int:
    try:
        found = re.search(
            r"^(?:total_)?inactive_file (\d+)", (folder / "memory.stat").read_text(encoding="utf-8"), re.MULTILINE
        )
    except OSError:
        return 0
    return 0 if found is None else int(found[1])
