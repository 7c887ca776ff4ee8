"""The directory of a run: its resolved settings, metrics, checkpoints and model."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flaxtl import config as configs
from flaxtl.errors import ConfigError, listed

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
    def claim(cls, path: str | Path, config: Any) -> RunDirectory:
        """Takes a directory for a run and writes the resolved settings into it.

        Raises:
            ConfigError: it holds another run and neither resume nor overwrite is set; or it is to be
                resumed with other settings; or it holds something that is no run.
        """
        path = Path(path)
        held = path / CONFIG
        if path.exists() and not path.is_dir():
            raise ConfigError(f"{path} is a file. Give a directory for the run with --out.")
        if config.run.resume and config.run.overwrite:
            raise ConfigError("--resume goes on with a run and --overwrite deletes it: choose one of them.")
        if held.exists() and config.run.resume:
            _require_same(configs.load(type(config), held), config, path)
            return cls(path, resumed=True)
        if path.exists() and any(path.iterdir()):
            if not held.exists():
                raise ConfigError(f"{path} holds files but no run. Choose an empty or new directory with --out.")
            if not config.run.overwrite:
                raise ConfigError(
                    f"{path} already holds a run. Go on with it by --resume, delete it by --overwrite, or choose another --out."
                )
            shutil.rmtree(path)
        path.mkdir(parents=True, exist_ok=True)
        configs.save(config, held)
        return cls(path)

    @property
    def checkpoints(self) -> Path:
        """Where training states are kept."""
        return self.path / CHECKPOINTS

    @property
    def model(self) -> Path:
        """Where the finished model is left."""
        return self.path / MODEL

    def log(self, **entry: Any) -> None:
        """Appends one line to metrics.jsonl."""
        with (self.path / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def forget_after(self, keep: Callable[[dict[str, Any]], bool]) -> None:
        """Drops the lines of metrics.jsonl that a resumed run will write again, or that were cut off."""
        file = self.path / METRICS
        if not file.exists():
            return
        kept = []
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:  # the line that was being written when the run was killed
                continue
            if keep(entry):
                kept.append(line + "\n")
        file.write_text("".join(kept), encoding="utf-8")

    def write_result(self, result: dict[str, Any]) -> None:
        """Writes result.json."""
        (self.path / RESULT).write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _require_same(old: Any, new: Any, path: Path) -> None:
    ignored = {"resume", "overwrite", "json"}

    def flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, entry in value.items():
            if isinstance(entry, dict):
                found.update(flat(entry, f"{prefix}{key}."))
            elif key not in ignored:
                found[prefix + key] = entry
        return found

    a, b = flat(configs.to_dict(old)), flat(configs.to_dict(new))
    changed = [
        f"{k} was {a.get(k)!r} and is now {b.get(k)!r}" for k in {**a, **b} if a.get(k) != b.get(k) and k != "out"
    ]
    if changed:
        raise ConfigError(
            f"{path} holds a run with other settings: {listed(changed)}. Resume it with the same settings, or choose another --out."
        )
