"""The jobs whose results are kept: every strategy, engine and kind of solved head, on a few pictures and a fixed seed.

A job is written as a user would write it: the name of a strategy and settings by name.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import parity
import tiny
import tiny_text
from parity import ours

import flaxtl
from flaxtl.convert.converting import plan_conversion
from flaxtl.data import Source, from_arrays
from golden.facts import facts_of_result, facts_of_tree

STEPS = {"epochs": 3, "batch_size": 5, "learning_rate": 0.02, "save_every": 3}
VALIDATED = {**STEPS, "validation": 0.25}
SHIFT = {"shift": 0.1}
WHOLE = {"contrast_from": "0"}
# Name → settings of `finetune`.
FINETUNE: dict[str, dict[str, Any]] = {
    "head": {"strategy": "head"},
    "head_mean": {"strategy": "head", "head": "mean"},
    "head_ridge": {"strategy": "head", "head": "ridge"},
    "head_noise": {"strategy": "head", "feature_noise": 0.2},
    "head_copies": {"strategy": "head", "views": 2, **SHIFT},
    "head_smoothed": {"strategy": "head", "label_smoothing": 0.1},
    "head_weighted": {"strategy": "head", "class_weight": "auto"},
    "head_prior": {"strategy": "head", "prior": {"2": 0.5, "10": 0.3, "a": 0.2}},
    "full": {"strategy": "full", **STEPS},
    "full_defaults": {"strategy": "full", "epochs": 2},
    "full_validated": {"strategy": "full", **VALIDATED, "ema": 0.9, "statistics": "batch", **SHIFT},
    "full_patience": {"strategy": "full", **VALIDATED, "patience": 1, "monitor": "loss"},
    "full_sgd": {"strategy": "full", **STEPS, "optimizer": "sgd", "momentum": 0.8, "schedule": "linear"},
    "full_decayed": {"strategy": "full", **STEPS, "layer_decay": 0.8, "l2_sp": 0.1, "warmup": 0.3, "clip_norm": None},
    "full_mixed": {"strategy": "full", **STEPS, "mixup": 0.4, "cutmix": 0.8},
    "full_weighted": {"strategy": "full", **STEPS, "class_weight": {"a": 2.0}, "label_smoothing": 0.1},
    "full_part": {"strategy": "full", **STEPS, "trainable": ("backbone/blocks_0/**",), "head_rate": 4.0},
    "full_wise": {"strategy": "full", **STEPS, "wise": 0.5},
    "full_wise_auto": {"strategy": "full", **VALIDATED, "wise": "auto"},
    "full_soup": {"strategy": "full", **STEPS, "soup": 2},
    "full_soup_greedy": {"strategy": "full", **VALIDATED, "soup": 3, "soup_kind": "greedy"},
    "full_pmap": {"strategy": "full", **STEPS, "parallel": "pmap"},
    "full_fsdp": {"strategy": "full", **STEPS, "parallel": "fsdp"},
    "full_microbatch": {"strategy": "full", **STEPS, "microbatch": 2},
    "full_bit": {"strategy": "full", "batch_size": 5, "schedule_rule": "bit", "learning_rate": 0.01},
    "lpft": {"strategy": "lpft", **STEPS},
    "lpft_augmented": {"strategy": "lpft", **STEPS, "brightness": 0.2, **SHIFT, "rand_augment": (1, 3.0)},
    "lpft_wise": {"strategy": "lpft", **STEPS, "wise": 0.25},
    "cut": {"strategy": "cut", **STEPS},
    "cut_named": {"strategy": "cut", **STEPS, "cut": "blocks_0"},
    "cut_new": {"strategy": "cut", "epochs": 3, "batch_size": 5, "cut_head": "new"},
    "cut_copies": {"strategy": "cut", **STEPS, **SHIFT},
    "gradual": {"strategy": "gradual", **STEPS, "stages": 3},
    "lora": {"strategy": "lora", **STEPS, "lora_rank": 2},
    "lora_soup": {"strategy": "lora", **STEPS, "lora_rank": 2, "lora_alpha": 4.0, "soup": 2},
    "contrastive": {"strategy": "contrastive", **WHOLE, "contrast_batch": 8},
    "contrastive_set": {"strategy": "contrastive", **WHOLE, **STEPS, "contrast_temperature": 0.2, "contrast_batch": 6},
    "scratch": {"strategy": "scratch", **STEPS},
    "auto": {"strategy": "auto", "budget": None},
    "few": {"strategy": "lpft", "examples_per_class": 3, "size": 12, **STEPS},
}
SEED = 3


def finetune(name: str) -> dict[str, Any]:
    """Returns the facts of a fine-tuning job, with test data, on one of several engines."""
    return facts_of_result(_finetuned(**FINETUNE[name]), tiny.source(4, seed=9))


def _finetuned(**settings: Any) -> Any:
    return flaxtl.finetune(
        tiny.model(), tiny.source(7, seed=1), test=tiny.source(4, seed=9), seed=SEED, cache="off", **settings
    )


def _with_targets(kind: str) -> Any:
    pictures, targets = tiny.pictures(8, seed=1)
    numbers = np.stack([targets, targets**2], axis=1).astype(np.float32)
    values = numbers if kind == "regression" else (numbers > 1).astype(np.float32)
    return from_arrays(pictures).with_outputs(values, ["u", "v"], kind)


def outputs(kind: str, strategy: str) -> dict[str, Any]:
    """Returns the facts of a job on several labels an example, or numbers."""
    source = _with_targets(kind)
    settings = {} if strategy == "head" else STEPS
    result = flaxtl.finetune(tiny.model(), source, test=source, strategy=strategy, seed=SEED, cache="off", **settings)
    return facts_of_result(result, source)


def texts(strategy: str) -> dict[str, Any]:
    """Returns the facts of a job on texts; the class names are learned from too."""
    with tempfile.TemporaryDirectory() as place:
        model = tiny_text.text_model(tiny_text.write_tokenizer(Path(place)))
        sentences, names = tiny_text.sentences(24)
        source = Source.of("text", sentences, names)
        settings = {} if strategy in ("head", "auto") else {"epochs": 2}
        settings |= {"budget": None} if strategy == "auto" else {}
        result = flaxtl.finetune(model, source, strategy=strategy, seed=SEED, cache="off", **settings)
        return facts_of_result(result, source)


def pretrain() -> dict[str, Any]:
    """Returns the facts of training from scratch."""
    result = flaxtl.pretrain(
        tiny.source(7, seed=1), settings={"depths": [1], "widths": [8], "stem": "cifar"}, size=8, channels=1,
        epochs=3, batch_size=5, seed=SEED, cache="off", turned_classes=True,
    )  # fmt: skip
    return facts_of_result(result, tiny.source(4, seed=9))


def lr_find() -> dict[str, Any]:
    """Returns the facts of a learning rate range test."""
    from flaxtl.config import LrFindConfig

    found = flaxtl.lr_find(tiny.model(), tiny.source(7, seed=1), LrFindConfig(steps=12, lowest=1e-4, highest=0.1))
    return {"numbers": [*found.rates, *found.losses]}


def probe() -> dict[str, Any]:
    """Returns the accuracy at each depth."""
    from flaxtl.probe.depth import probe_depths

    found = probe_depths(tiny.model(), tiny.source(7, seed=1), store=None, seed=SEED)
    return {"numbers": [depth.accuracy for depth in found.depths]}


def rank() -> dict[str, Any]:
    """Returns what two networks' features are worth."""
    from flaxtl.probe.ranking import rank as ranked

    found = ranked([("a", tiny.model(0)), ("b", tiny.model(1))], tiny.source(7, seed=1), store=None, seed=SEED)
    rows = found.to_dict()["models"]
    named = [(name, value) for row in rows for name, value in row.items() if isinstance(value, float)]
    return {"numbers": [value for name, value in named if name != "seconds"]}


def convert() -> dict[str, Any]:
    """Returns the parameters that published weights become."""
    found: dict[str, Any] = {}
    for name in ("resnet_basic", "vit_token", "convnext", "bert_model"):
        with np.load(parity.FIXTURES / f"{name}.npz") as file:
            about = json.loads(str(file["about"]))
        model = plan_conversion(ours.weights_of(about["tensors"], about["config"])).read()
        found |= {f"{name}/{leaf}": fact for leaf, fact in facts_of_tree(model.variables)["leaves"].items()}
    return {"leaves": found}


@contextlib.contextmanager
def interrupted_at(step: int) -> Iterator[None]:
    """Ends every run, while the block runs, when its log comes to a step of training."""
    from flaxtl.train.rundir import RunDirectory

    log = RunDirectory.log

    def log_or_end(self: RunDirectory, **entry: Any) -> None:
        log(self, **entry)
        if entry.get("step") == step and "loss" in entry:
            raise InterruptedError

    RunDirectory.log = log_or_end  # type: ignore[method-assign]
    try:
        yield
    except InterruptedError:
        pass
    finally:
        RunDirectory.log = log  # type: ignore[method-assign]


RESUMED: dict[str, dict[str, Any]] = {
    "lpft": {"strategy": "lpft", **VALIDATED, "epochs": 8, "ema": 0.9, **SHIFT},
    "gradual": {"strategy": "gradual", **STEPS, "epochs": 8, "stages": 3},
}
# Steps of the phase: lpft ends in its second phase, gradual before its first unfreezing.
INTERRUPTED_AT = {"lpft": 20, "gradual": 10}


def run(name: str, out: Path, **more: Any) -> Any:
    """Runs one of `RESUMED` in a directory."""
    return _finetuned(**RESUMED[name], out=os.fspath(out), **more)


def save_model(out: Path) -> None:
    """Saves a model whose card says what training found: the temperature, the validation figure."""
    result = flaxtl.finetune(
        tiny.model(), tiny.source(7, seed=1), seed=SEED, strategy="lpft", cache="off", validation=0.3, epochs=3
    )
    result.model.save(out)


JOBS: dict[str, Callable[[], dict[str, Any]]] = {
    **{f"finetune/{name}": (lambda name=name: finetune(name)) for name in FINETUNE},
    **{
        f"{kind}/{strategy}": (lambda kind=kind, strategy=strategy: outputs(kind, strategy))
        for kind in ("multilabel", "regression")
        for strategy in ("head", "lpft")
    },
    **{f"text/{strategy}": (lambda strategy=strategy: texts(strategy)) for strategy in ("head", "lora", "auto")},
    "pretrain": pretrain,
    "lr_find": lr_find,
    "probe": probe,
    "rank": rank,
    "convert": convert,
}
