"""Which jobs there are: the default plan with its settings, the key of a job, and what a job is expected to cost."""

from __future__ import annotations

import dataclasses
import json
import statistics
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flaxtl.config import StrategyName
from small_data.manifests import Manifest, digest
from small_data.sets import SETS

OURS = ("head", "cut", "lpft", "full", "auto", "scratch", "contrastive")
TORCH = ("tutorial_head", "tutorial_full", "fastai", "transformers", "setfit")
METHODS = (*OURS, "sklearn", *TORCH)

Settings = Mapping[str, Any]
_TUTORIAL = {"epochs": 25, "batch_size": 4, "learning_rate": 0.001}
_FASTAI = {"epochs": 10, "frozen_epochs": 1, "batch_size": 64, "learning_rate": 0.002}
_PEERS: dict[str, Settings] = {
    "tutorial_head": {**_TUTORIAL, "frozen": True},
    "tutorial_full": {**_TUTORIAL, "frozen": False},
    "fastai": _FASTAI,
}
# Fewer passes than flaxtl's own default for so few examples (about 4,000 examples in all), for the time's sake.
_OURS: dict[str, Settings] = {
    "head": {},
    "cut": {"epochs": 20},
    "lpft": {"epochs": 10},
    "full": {"epochs": 20},
    "auto": {"budget": "90s"},
    "scratch": {"epochs": 20},
}
# What a method is told beyond its own defaults, by modality; the methods that a modality has.
SETTINGS: dict[str, dict[str, Settings]] = {
    "image": {**_OURS, "sklearn": {}, **_PEERS},
    "text": {
        **_OURS,
        "contrastive": {},
        "sklearn": {},
        "transformers": {"epochs": 10, "batch_size": 16, "learning_rate": 5e-5},
        "setfit": {"iterations": 20, "most_pairs": 4000, "batch_size": 16, "learning_rate": 2e-5},
    },
    "audio": {**_OURS, "sklearn": {}, **_PEERS},
}


@dataclasses.dataclass(frozen=True)
class Share:
    """How much of a method the default plan has.

    Attributes:
        draws: how many, of sets that `fewer` does not name.
        shots: None for all of the set's.
        fewer: draws of single sets.
    """

    draws: int
    shots: tuple[int, ...] | None = None
    fewer: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def draws_of(self, name: str) -> int:
        """Returns the draws of a set."""
        return self.fewer.get(name, self.draws)


# auto is judged over ten draws and takes most of the time; the dear fixed methods have few draws, and leave out what
# costs most: 1 and 50 a class, and the sets with the most test examples. `--plan` adds up what all of it is expected to
# cost; for the pictures that is still above the three CPU-hours that it is meant to fit into, where auto's jobs that
# have not been run yet are guessed.
_LARGE = {"sign_digits": 1, "fashion_mnist": 1, "banking77": 1}
_CHEAP, _MIDDLE, _DEAR = Share(10), Share(5, (5, 10, 20), {"fashion_mnist": 2}), Share(2, (5, 10, 20), _LARGE)
_CONTROL = Share(1, (10, 20))
PLAN: dict[str, dict[str, Share]] = {
    "image": {
        "head": _CHEAP,
        "sklearn": _CHEAP,
        "auto": Share(10, (5, 10, 50)),
        "cut": _MIDDLE,
        "tutorial_head": _DEAR,
        "lpft": _DEAR,
        "fastai": _DEAR,
        "full": _DEAR,
        "tutorial_full": _DEAR,
        "scratch": _CONTROL,
    },
    "text": {
        "head": _CHEAP,
        "sklearn": _CHEAP,
        "auto": Share(10, (5, 10)),
        "cut": _DEAR,
        "contrastive": _DEAR,
        "setfit": _DEAR,
        "lpft": _DEAR,
        "transformers": _DEAR,
        "full": _DEAR,
        "scratch": _CONTROL,
    },
    "audio": {
        "head": _CHEAP,
        "sklearn": _CHEAP,
        "auto": Share(10, (5, 20)),
        "cut": _DEAR,
        "tutorial_head": _DEAR,
        "lpft": _DEAR,
        "fastai": _DEAR,
        "full": _DEAR,
        "tutorial_full": _DEAR,
        "scratch": _CONTROL,
    },
}


@dataclasses.dataclass(frozen=True)
class Job:
    """One method on one draw.

    Attributes:
        set: the data set's name.
        shots: labelled examples of each class.
        draw: its number, which is the seed too.
        method: one of `METHODS`.
        settings: what the method is told.
        key: hash of all these and of the example lists; the same key, the same job.
    """

    set: str
    shots: int
    draw: int
    method: str
    settings: Settings
    key: str

    @classmethod
    def of(cls, manifest: Manifest, shots: int, draw: int, method: str, settings: Settings) -> Job:
        """Returns the job with its key."""
        content = [manifest.name, shots, draw, method, dict(settings), manifest.digest(shots, draw)]
        return cls(manifest.name, shots, draw, method, settings, digest(content))


def known(method: str) -> bool:
    """Says whether a method is a peer's, or one that this flaxtl has."""
    return method not in OURS or method in typing.get_args(StrategyName)


def jobs_of(
    manifest: Manifest,
    methods: Sequence[str] | None = None,
    shots: Sequence[int] | None = None,
    draws: int | None = None,
    epochs: int | None = None,
) -> list[Job]:
    """Returns a set's jobs, method by method and in each by shots and draws, which is the order in which they are run.

    Args:
        manifest: of the set.
        methods: None takes those of the default plan that this flaxtl has.
        shots: None takes those of the plan; otherwise every method is run with each that the set has.
        draws: None takes those of the plan, at most as many as the manifest has.
        epochs: at most so many passes of methods that take steps; for trying out.
    """
    settings, plan = SETTINGS[manifest.modality], PLAN[manifest.modality]
    chosen = [m for m in plan if known(m)] if methods is None else [m for m in methods if m in settings]
    found = []
    for method in chosen:
        share = plan[method]
        wanted = SETS[manifest.name].shots if shots is None and share.shots is None else shots or share.shots
        for k in SETS[manifest.name].shots:
            for draw in range(share.draws_of(manifest.name) if draws is None else draws):
                if k in (wanted or ()) and f"{k}/{draw}" in manifest.draws:
                    told = _shortened(method, settings[method], epochs)
                    found.append(Job.of(manifest, k, draw, method, told))
    return found


def _shortened(method: str, settings: Settings, epochs: int | None) -> Settings:
    if epochs is None or method in ("head", "sklearn", "auto", "setfit", "contrastive"):
        return settings
    return {**settings, "epochs": min(epochs, settings.get("epochs", epochs))}


# CPU seconds of a job's beginning, of measuring an example and of training on it once, on a Zen 4 core: rough guesses
# that give way to what was measured as soon as one draw is done.
_FIRST = {"image": 4.0, "text": 8.0, "audio": 6.0}
_FORWARD = {"image": 0.025, "text": 0.007, "audio": 0.015}
_STEP = {"image": 0.09, "text": 0.025, "audio": 0.05}
# Of a step, where less than the whole network is trained; and passes where the settings name none.
_PART = {"tutorial_head": 0.35, "cut": 0.4}
_PASSES = {"head": 0, "sklearn": 0, "auto": 10, "setfit": 0, "contrastive": 0}


def expected(job: Job, manifest: Manifest, done: Iterable[Mapping[str, Any]]) -> float:
    """Returns the CPU seconds of a job: what its like took on other draws, otherwise a rough guess."""
    alike = [
        line["cpu_seconds"]
        for line in done
        if (line["set"], line["shots"], line["method"]) == (job.set, job.shots, job.method)
        and line["settings"] == dict(job.settings)
    ]
    if alike:
        return statistics.median(alike)
    train, test = manifest.draw(job.shots, job.draw)
    modality = manifest.modality
    passes = len(train) * job.settings.get("epochs", _PASSES.get(job.method, 20))
    if job.method in ("setfit", "contrastive"):
        passes = 2 * min(40 * len(train), job.settings.get("most_pairs", 4000))
    measured = 0 if job.method in ("head", "sklearn") else len(test) * _FORWARD[modality]
    return _FIRST[modality] + measured + passes * _PART.get(job.method, 1.0) * _STEP[modality]


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Reads finished jobs, the last of each key; a line that an interruption cut short is left out."""
    if not file.exists():
        return []
    lines = {}
    for text in file.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        lines[line["key"]] = line
    return list(lines.values())
