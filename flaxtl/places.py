"""Places of this machine: paths as users write them, and where caches may lie; all work without a home directory."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from flaxtl.errors import ConfigError, shown


def expanded(path: str | os.PathLike[str]) -> Path:
    """Returns a path with a leading ~ replaced by the user's home directory.

    Raises:
        ConfigError: it is no path, the home directory is unknown, or the locale cannot write the path's characters.

    Example:
        >>> expanded('photos/cat').as_posix()
        'photos/cat'
    """
    name = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
    if not isinstance(name, str):
        raise ConfigError(f"Expected a path, as text or a pathlib.Path; found {shown(path)}.")
    if not name:
        raise ConfigError("Expected a path; found an empty text. The current folder is written '.'.")
    if "\0" in name:
        raise ConfigError(f"The path {shown(name)} holds the character 0, which no file's name can.")
    try:
        found = _with_home(Path(name))
        os.fsencode(found)
        found.exists()
    except OSError as error:  # a name that is too long; what lacks or is hidden is no error here
        raise ConfigError(f"The path {shown(name)} cannot be used: {error.strerror or error}.") from error
    except RuntimeError as error:
        raise ConfigError(
            f"The home directory, which ~ in {name!r} stands for, is unknown: HOME is not set and the user has no "
            "passwd entry. Set HOME, or write the path in full."
        ) from error
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"The path {name!a} has characters that no file can be named with in this locale. "
            "Set PYTHONUTF8=1, or a UTF-8 locale such as LC_ALL=C.UTF-8."
        ) from error
    return found


def _with_home(path: Path) -> Path:
    """Expands ~ and, as shells do, ~user where there is such a user; else that is a name like any other."""
    try:
        return path.expanduser()
    except RuntimeError:
        if path.parts[0] == "~":
            raise
        return path


def cache_root() -> Path | None:
    """Returns the user's cache directory of flaxtl, or None where there is none that can be written.

    It is $XDG_CACHE_HOME/flaxtl, else ~/.cache/flaxtl, and is made if it is missing. None means that nothing is kept
    for the next process: HOME is unset without a passwd entry, or is read-only.
    """
    home = os.environ.get("XDG_CACHE_HOME")
    try:
        root = (Path(home) if home else Path.home() / ".cache") / "flaxtl"
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):  # permission bits say nothing of read-only mounts
            return root
    except (OSError, RuntimeError, UnicodeEncodeError):
        return None


_temporary: list[tempfile.TemporaryDirectory[str]] = []


def cache_or_temporary() -> Path:
    """Returns `cache_root()`, or a directory that is deleted when this process ends."""
    root = cache_root()
    if root is not None:
        return root
    if not _temporary:
        _temporary.append(tempfile.TemporaryDirectory(prefix="flaxtl-cache-", ignore_cleanup_errors=True))
    return Path(_temporary[0].name)


def prepare_home() -> None:
    """Gives libraries that write below the home directory a temporary place where there is no home to write to.

    Matplotlib and the Hugging Face libraries otherwise warn, fail, or make a directory called '~'. What they have
    below a home that is read-only stays in use.
    """
    if cache_root() is not None:
        return
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    for variable, usual in (("MPLCONFIGDIR", "~/.config/matplotlib"), ("HF_HOME", f"{cache}/huggingface")):
        if variable not in os.environ and not os.path.isdir(os.path.expanduser(usual)):
            place = cache_or_temporary() / Path(usual).name
            place.mkdir(exist_ok=True)
            os.environ[variable] = str(place)
