"""Which jobs there are: the default plan with its settings, the key of a job, and what a job is expected to cost."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

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


Draws = Mapping[int, int]
# Of the cheap methods, and of what the plan has none of but the command line asks for.
DRAWS = 10
# By modality, the methods between the cheap ones and those that take steps through the whole network.
_MIDDLE = {"image": ("cut",), "text": ("contrastive",), "audio": ("cut",)}
_FULL_PEERS = ("tutorial_head", "lpft", "fastai", "full", "tutorial_full")
_DEAR = {"image": _FULL_PEERS, "text": ("cut", "setfit", "lpft", "transformers", "full"), "audio": _FULL_PEERS}


def _plan(name: str, auto: Draws, middle: Draws, dear: Draws, scratch: Draws) -> dict[str, Draws]:
    """Returns a set's methods from the cheapest to the dearest, each with its draws by examples a class."""
    modality = SETS[name].modality
    cheap = dict.fromkeys(SETS[name].shots, DRAWS)
    fixed = dict.fromkeys(_MIDDLE[modality], middle) | dict.fromkeys(_DEAR[modality], dear)
    return {"head": cheap, "sklearn": cheap, "auto": auto, **fixed, "scratch": scratch}


# What is run by default. auto is judged over ten draws, which takes most of the time, so the dear fixed methods have
# one draw or two: the pictures take a little over four CPU-hours, texts and sounds three and a half (`--plan` adds up).
PLAN: dict[str, dict[str, Draws]] = {
    "flowers": _plan("flowers", {5: 10, 10: 10, 50: 10}, {5: 2, 10: 2}, {5: 2, 10: 2}, {10: 1}),
    "sign_digits": _plan("sign_digits", {5: 10, 10: 10}, {5: 2, 10: 2}, {5: 1, 10: 1}, {}),
    "fashion_mnist": _plan("fashion_mnist", {5: 1, 10: 10, 50: 10}, {5: 1, 10: 1}, {10: 1}, {}),
    "banking77_10": _plan("banking77_10", {5: 10, 10: 10}, {5: 10, 10: 1}, {5: 2, 10: 1}, {10: 1}),
    "banking77": _plan("banking77", {5: 3, 10: 1}, {5: 10, 10: 1}, {5: 1}, {}),
    "esc10_folds123": _plan("esc10_folds123", {5: 10}, {5: 2}, {5: 1}, {}),
    "fsdd": _plan("fsdd", {5: 6, 20: 6}, {5: 2, 20: 1}, {5: 1, 20: 1}, {20: 1}),
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
        methods: None takes those of the default plan.
        shots: None takes those of the plan; otherwise every method is run with each of these that the set has.
        draws: None takes those of the plan, at most as many as the manifest has.
        epochs: at most so many passes of methods that take steps; for trying out.
    """
    settings, plan = SETTINGS[manifest.modality], PLAN[manifest.name]
    chosen = list(plan) if methods is None else [m for m in methods if m in settings]
    found = []
    for method in chosen:
        for k in SETS[manifest.name].shots:
            planned = plan[method].get(k, 0)
            if shots is not None:
                planned = (planned or DRAWS) if k in shots else 0
            for draw in range(draws if planned and draws is not None else planned):
                if f"{k}/{draw}" in manifest.draws:
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
_PASSES = {"head": 0, "sklearn": 0, "auto": 20, "setfit": 0, "contrastive": 0}


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
