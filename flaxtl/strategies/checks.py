"""What is looked at before a run begins, so that a mistake costs a second and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from flaxtl import freeze
from flaxtl.config import Optimizer, Run, Training
from flaxtl.data import Source
from flaxtl.errors import ConfigError, DataError, listed, shown
from flaxtl.model import Model
from flaxtl.setting_values import require_count
from flaxtl.strategies.adapters import with_adapters
from flaxtl.strategies.borders import segment_named
from flaxtl.strategies.chains import trained_labels
from flaxtl.strategies.phases import Phase


def require_sensible(training: Training, optimizer: Optimizer, seed: int) -> None:
    """Refuses settings that have the right type and an impossible value.

    Raises:
        ConfigError: naming the setting, its value and what was expected.

    Example:
        >>> require_sensible(Training(batch_size=0), Optimizer(), 0)
        Traceback (most recent call last):
        ...
        flaxtl.errors.ConfigError: `batch_size` is 0; expected a whole number of at least 1.
    """
    t, o = training, optimizer
    require_positive(batch_size=t.batch_size, patience=t.patience, save_every=t.save_every)
    _above_zero(epochs=t.epochs, learning_rate=o.learning_rate, clip_norm=o.clip_norm)
    _within(seed >= 0, "seed", seed, "a whole number of at least 0")
    _within(t.ema is None or 0.0 < t.ema < 1.0, "ema", t.ema, "a decay between 0 and 1")
    _within(0.0 <= t.label_smoothing < 1.0, "label_smoothing", t.label_smoothing, "a share of at least 0 and below 1")
    _within(0.0 <= t.validation < 1.0, "validation", t.validation, "a share of at least 0 and below 1")
    _within(0.0 <= o.warmup <= 1.0, "warmup", o.warmup, "a share from 0 to 1")
    _within(0.0 <= o.momentum < 1.0, "momentum", o.momentum, "a number of at least 0 and below 1")
    _within(0.0 <= o.weight_decay < np.inf, "weight_decay", o.weight_decay, "a number of at least 0")
    _within(0.0 < o.layer_decay <= 1.0, "layer_decay", o.layer_decay, "a factor above 0 and at most 1")
    _within(0.0 <= o.l2_sp < np.inf, "l2_sp", o.l2_sp, "a number of at least 0")
    wise = t.wise
    _within(not isinstance(wise, float) or 0.0 <= wise <= 1.0, "wise", wise, "a share from 0 to 1, or auto")
    _within(t.soup >= 1, "soup", t.soup, "a number of at least 1")
    _within(0.0 <= t.feature_noise < np.inf, "feature_noise", t.feature_noise, "a share of at least 0")
    _within(o.head_rate is None or 0.0 <= o.head_rate < np.inf, "head_rate", o.head_rate, "a number of at least 0")


def require_possible_run(run: Run) -> None:
    """Refuses settings of where and on what a run runs that have an impossible value, before it leaves anything.

    Raises:
        ConfigError: naming the setting, its value and what was expected.
    """
    require_positive(microbatch=run.microbatch, processes=run.processes)
    _above_zero(memory_gigabytes=run.memory_gigabytes, peer_timeout=run.peer_timeout)
    _within(run.cache_gigabytes >= 0.0, "cache_gigabytes", run.cache_gigabytes, "a number of at least 0")


def require_positive(**settings: int | None) -> None:
    """Refuses counts below 1; None is fine.

    Raises:
        ConfigError: naming the setting.
    """
    require_count(**{name: value for name, value in settings.items() if value is not None})


def _above_zero(**settings: float | None) -> None:
    for name, value in settings.items():
        _within(value is None or 0.0 < value < np.inf, name, value, "a number above 0")


def _within(fine: bool, name: str, value: Any, expected: str) -> None:
    if not fine:
        raise ConfigError(f"`{name}` is {shown(value)}; expected {expected}.")


def require_labelled(source: Source, least: int = 1) -> None:
    """Refuses data without labels, or whose labels do not differ where they are to be learned from.

    Args:
        source: of any task.
        least: how many classes must have examples; 2 for training data, of numbers and labels too.

    Raises:
        DataError: an example has no label, fewer than `least` classes have one, or no output differs.
    """
    if source.task != "classification":
        if least > 1 and (source.targets == source.targets[:1]).all():
            raise DataError(f"Every example has the same {listed(source.labels)}; expected some that differ.")
        return
    bare = [source.keys[i] for i in np.flatnonzero(source.targets < 0)]
    if bare:
        raise DataError(
            f"{len(bare)} of {len(source)} examples have no label: {listed(bare, 20)}. Label or remove them."
        )
    present = [source.labels[t] for t in np.unique(source.targets)]
    if len(present) < least:
        found = f"the one class {present[0]!r}" if present else "no class"
        raise DataError(f"The data holds {found}; expected at least {'two' if least == 2 else least}.")


def require_fit(model: Model, phases: Iterable[Phase], source: Source) -> None:
    """Refuses patterns that match no parameter, and examples that the network cannot take.

    Raises:
        PathError: a pattern matches nothing.
        ConfigError: features are to be trained where there are none.
        DataError: the first example cannot be prepared for the network.
    """
    for phase in phases:
        if phase.kind == "train":
            start = segment_named(model.network, phase.start)
            whole = model if phase.lora is None else with_adapters(model, phase.lora, start=start)
            labels = jax.tree.leaves(trained_labels(phase, whole))
            if phase.contrast is not None and set(labels) == {freeze.FROZEN}:
                raise ConfigError(
                    f"From {model.network.segments[start]!r} on the network has no parameters but its head's, so there "
                    "are no features to train. Name an earlier part with `contrast_from`."
                )
    model.pipeline.preprocess.rows(source.raw[0])


def without_pairs(phases: tuple[Phase, ...], source: Source) -> tuple[tuple[Phase, ...], list[str]]:
    """Leaves out the phases that draw examples of one class together where no class has two, and says so.

    Args:
        phases: of a strategy.
        source: training data.

    Returns:
        The phases that are left, and notes for the user.
    """
    left = tuple(phase for phase in phases if phase.contrast is None)
    if left == phases or np.bincount(source.targets).max() > 1:
        return phases, []
    return left, ["Every class has one example, so there are none to draw together: the head alone is solved."]
