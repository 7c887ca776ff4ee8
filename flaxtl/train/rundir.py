"""The directory of a run: its resolved settings, metrics, checkpoints and model."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flaxtl import config as configs
from flaxtl import processes
from flaxtl.errors import ConfigError, TrainingError, listed, shown
from flaxtl.places import expanded

CONFIG, METRICS, CHECKPOINTS, MODEL, RESULT = (
    "config.yaml",
    "metrics.jsonl",
    "checkpoints",
    "model",
    "result.json",
)


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """A claimed run directory.

    Attributes:
        path: where it is.
        resumed: whether it goes on with an earlier run.
    """

    path: Path
    resumed: bool = False

    @classmethod
    def check(cls, path: str | Path, config: Any) -> RunDirectory:
        """Says what would become of a directory if a run claimed it; nothing is changed.

        Raises:
            ConfigError: it holds another run and neither resume nor overwrite is set; or it is to be
                resumed with other settings; or it holds something that is no run.
        """
        path = expanded(path)
        _require_possible(path)
        held = path / CONFIG
        if path.exists() and not path.is_dir():
            raise ConfigError(f"{path} is a file. Give a directory for the run with `out`.")
        if config.run.resume and config.run.overwrite:
            raise ConfigError("`resume=True` continues a run and `overwrite=True` deletes it: choose one of them.")
        if held.exists() and config.run.resume:
            _require_same(_settings_of(type(config), held), config, path)
            return cls(path, resumed=True)
        if path.exists() and any(path.iterdir()):
            if not held.exists():
                raise ConfigError(f"{path} holds files but no run. Choose an empty or new directory with `out`.")
            if not config.run.overwrite:
                raise ConfigError(
                    f"{path} already holds a run. Continue it with `resume=True`, delete it with "
                    "`overwrite=True`, or choose another `out`."
                )
        return cls(path)

    @classmethod
    def claim(cls, path: str | Path, config: Any) -> RunDirectory:
        """Takes a directory for a run and writes the resolved settings into it.

        Resuming and overwriting are left out of what is written: the file reproduces the run, and must
        not delete one when it is used again.

        Raises:
            ConfigError: as of `check`.
            TrainingError: it cannot be written to.
        """
        run = cls.check(path, config)
        processes.together("the run directory, found")
        if processes.first() and not run.resumed:
            run._make(config)
        processes.together("the run directory, made")
        return run

    def _make(self, config: Any) -> None:
        kept = dataclasses.replace(config, run=dataclasses.replace(config.run, resume=False, overwrite=False))
        with _writing(self.path):
            place = Path(os.path.realpath(self.path))  # what a link leads to is emptied, not the link deleted
            if place.exists():
                shutil.rmtree(place)
            place.mkdir(parents=True)
            configs.save(kept, self.path / CONFIG)

    def states(self, phase: int) -> Path:
        """Returns where the training states of a phase are kept."""
        return self.path / CHECKPOINTS / f"phase_{phase}"

    def kept(self, name: str) -> Path:
        """Returns where variables that later phases come back to are kept."""
        return self.path / CHECKPOINTS / name

    @property
    def model(self) -> Path:
        """Where the finished model is left."""
        return self.path / MODEL

    def log(self, **entry: Any) -> None:
        """Appends one line to metrics.jsonl; of several processes, only the first does."""
        if not processes.first():
            return
        file = self.path / METRICS
        with _writing(file), file.open("a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def forget_after(self, keep: Callable[[dict[str, Any]], bool]) -> None:
        """Drops the lines of metrics.jsonl that a resumed run will write again, or that were cut off."""
        file = self.path / METRICS
        if not file.exists() or not processes.first():
            return
        kept = []
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:  # the line that was being written when the run was killed
                continue
            if keep(entry):
                kept.append(line + "\n")
        fresh = file.with_suffix(".partial")
        with _writing(file):
            fresh.write_text("".join(kept), encoding="utf-8", errors="backslashreplace")
            os.replace(fresh, file)

    def write_result(self, result: dict[str, Any]) -> None:
        """Writes result.json; of several processes, only the first does."""
        if not processes.first():
            return
        file = self.path / RESULT
        with _writing(file):
            text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
            file.write_text(text, encoding="utf-8", errors="backslashreplace")


# What the longest path of a file in a run directory adds to the directory's own.
_BELOW = 250


def _require_possible(path: Path) -> None:
    """Refuses a path that no directory with the files of a run can have."""
    try:
        length, most = len(os.fsencode(os.path.abspath(path))), os.pathconf("/", "PC_PATH_MAX") - _BELOW
        reason = f"its path has {length:,} bytes, and at most {most:,} can be used" if length > most else ""
        path.exists()
    except (OSError, ValueError) as error:  # a name that is too long, or holds the character 0
        reason = getattr(error, "strerror", None) or str(error)
    if reason:
        raise ConfigError(f"{shown(path)} cannot be a run directory: {reason}. Choose another `out`.")


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TrainingError(f"{place} cannot be written: {error.strerror or error}. {_remedy(error)}.") from error


def _remedy(error: OSError) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return "Free some space, or choose another `out`" if full else "Choose a place for `out` that can be written to"


def _settings_of(kind: type, held: Path) -> Any:
    try:
        return configs.load(kind, held)
    except ConfigError as error:
        raise ConfigError(
            f"The run in {held.parent} was not started by this command, or by another version of it: {error}"
        ) from error


def _require_same(old: Any, new: Any, path: Path) -> None:
    a, b = _flat(configs.to_dict(old)), _flat(configs.to_dict(new))
    changed = [f"`{k}` was {shown(a.get(k))} and is now {shown(b.get(k))}" for k in {**a, **b} if a.get(k) != b.get(k)]
    if changed:
        raise ConfigError(
            f"{path} holds a run with other settings: {listed(changed)}. "
            "Resume it with the same settings, or choose another `out`."
        )


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings that decide what comes out of a run, by their names."""
    found = {k: v for k, v in settings.items() if k not in ("out", "run")}
    flat: dict[str, Any] = {"seed": settings["run"]["seed"]}
    for key, value in found.items():
        flat |= value if isinstance(value, dict) else {key: value}
    return flat
