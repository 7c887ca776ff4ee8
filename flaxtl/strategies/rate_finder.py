"""The learning rate range test (Smith 2017): the loss while the rate rises from step to step."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from flaxtl.config import FinetuneConfig, LrFindConfig
from flaxtl.data import Loader, Source
from flaxtl.errors import ConfigError
from flaxtl.model import Model
from flaxtl.probe.attach import solve_and_attach
from flaxtl.setting_values import require_type
from flaxtl.strategies import augmenting
from flaxtl.strategies.chains import trained_labels
from flaxtl.strategies.checks import require_labelled, require_positive, require_sensible
from flaxtl.strategies.given import fitted, model_of, opened
from flaxtl.strategies.phases import phases_of
from flaxtl.train import init_state, make_step, mixing, model_loss, optim
from flaxtl.training_settings import Optimizer, Training

# What is recorded is averaged over about as many steps; when it is so many times its least, the test ends (fastai's).
_SMOOTHING, _DIVERGED = 0.9, 4.0
_LEAST = 8  # steps before a suggestion means anything


@dataclasses.dataclass(frozen=True)
class RateFinding:
    """What the loss did while the learning rate rose.

    Attributes:
        rates: float [n], rising by one factor from step to step.
        losses: float [n], of the batch at each step.
        smoothed: float [n], their moving average, corrected for its start.
        ended: whether the loss grew beyond all bounds before the last rate was reached.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    ended: bool

    @property
    def steepest(self) -> float | None:
        """The rate at which the smoothed loss falls fastest over the logarithm of the rate; None if it never falls."""
        if len(self.rates) < _LEAST:
            return None
        slope = np.gradient(np.asarray(self.smoothed))
        place = int(slope.argmin())
        return self.rates[place] if slope[place] < 0 else None

    @property
    def tenth_of_lowest(self) -> float | None:
        """A tenth of the rate at which the smoothed loss is lowest; None if it is lowest at the start."""
        place = int(np.argmin(self.smoothed)) if self.smoothed else 0
        return self.rates[place] / 10.0 if place > 0 and len(self.rates) >= _LEAST else None

    @property
    def suggestion(self) -> float | None:
        """The smaller of both, or None where the loss did not fall."""
        both = (self.steepest, self.tenth_of_lowest)
        return None if None in both else min(rate for rate in both if rate is not None)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return {
            "suggestion": self.suggestion,
            "steepest": self.steepest,
            "tenth_of_lowest": self.tenth_of_lowest,
            "ended": self.ended,
            "rates": list(self.rates),
            "losses": list(self.losses),
            "smoothed": list(self.smoothed),
        }

    def summary(self) -> str:
        """Returns a few lines for people."""
        span = f"{len(self.rates)} steps, learning rates from {self.rates[0]:.2g} to {self.rates[-1]:.2g}"
        if self.suggestion is None:
            return f"{span}: the loss did not fall, so nothing can be suggested. Give more steps or other rates."
        return (
            f"{span}\nthe loss falls fastest at {self.steepest:.2g}; a tenth of where it is lowest is "
            f"{self.tenth_of_lowest:.2g}\nsuggestion: `learning_rate={self.suggestion:.2g}`"
        )


def lr_find(model: Model | str, data: Any, config: LrFindConfig | None = None) -> RateFinding:
    """Trains a copy of a model for some steps with a rising learning rate and records the loss.

    Batches repeat where there are fewer of them than steps. The model is left as it was.

    Args:
        model: a `Model`, or what `flaxtl.load` takes.
        data: labelled training data, as `finetune` takes it.
        config: the settings; what it says of model and data gives way to the arguments.

    Raises:
        ConfigError: impossible settings.
        DataError: the data cannot be learnt from.

    Example:
        >>> from flaxtl.data import from_arrays
        >>> pictures = np.zeros((4, 32, 32)) + np.array([0.0, 0.0, 1.0, 1.0])[:, None, None]
        >>> found = lr_find('flaxtl:characters', from_arrays(pictures, list('aabb')), LrFindConfig(steps=3))
        >>> len(found.losses), round(found.rates[1] / found.rates[0]) == round(found.rates[2] / found.rates[1])
        (3, True)
    """
    config = LrFindConfig() if config is None else require_type(config, LrFindConfig, "config")
    require_positive(steps=config.steps)
    if not 0.0 < config.lowest < config.highest < math.inf:
        raise ConfigError(
            f"`lowest` is {config.lowest:g} and `highest` {config.highest:g}; expected rates above 0, the lower first."
        )
    settings = _as_finetuning(config)
    require_sensible(settings.training, settings.optimizer, config.seed)
    source = opened(data, config.data_options, config.seed).train
    require_labelled(source, least=2)
    base = model_of(model)
    base.card.require_modality(source.modality)
    augment, _ = augmenting.resolved(config.augment, base.card, source.labels, config.sound)
    start = fitted(base, source).with_head(source.labels, task=source.task, seed=config.seed)
    if config.strategy == "lpft":
        start = solve_and_attach(start, source, seed=config.seed).model.with_temperature_in_head()
    return _tested(start, source, config, dataclasses.replace(settings, augment=augment))


def _as_finetuning(config: LrFindConfig) -> FinetuneConfig:
    """Returns the fine-tuning whose learning rate is looked for."""
    training = Training(batch_size=config.batch_size)
    optimizer = Optimizer(
        optimizer=config.optimizer,
        weight_decay=config.weight_decay,
        head_rate=config.head_rate,
        layer_decay=config.layer_decay,
    )
    return FinetuneConfig(
        strategy=config.strategy, training=training, optimizer=optimizer, augment=config.augment, sound=config.sound
    )


def _tested(model: Model, source: Source, config: LrFindConfig, settings: FinetuneConfig) -> RateFinding:
    phase, augment = phases_of(settings)[-1], settings.augment
    labels = trained_labels(phase, model)
    factor = (config.highest / config.lowest) ** (1.0 / max(config.steps - 1, 1))
    tx = optim.with_schedule(phase.optimizer, labels, lambda count: config.lowest * factor**count)
    stats = {name: tree for name, tree in model.variables.items() if name != "params"}
    state = init_state(model.params, tx, labels, stats=stats, seed=config.seed)
    mixed = mixing.mixer(mixup=augment.mixup, cutmix=augment.cutmix, outputs=len(source.labels))
    step = make_step(model_loss(model.pipeline, task=model.card.head.task), tx, change=mixed)
    rows = min(config.batch_size, len(source))
    changed = augmenting.on_host(augment, settings.sound)
    loader = Loader(source, model.pipeline.preprocess, rows, seed=config.seed, augment=changed)
    losses: list[float] = []
    for batch in loader.iterate(0, config.steps):
        state, measured = step(state, batch)
        loss = float(jax.device_get(measured["loss"]))
        if not math.isfinite(loss):
            break
        losses.append(loss)
        smoothed = _smoothed(losses)
        if smoothed[-1] > _DIVERGED * max(min(smoothed), 1e-3):
            break
    if not losses:
        raise ConfigError("The loss is no finite number from the first step on. Look for extreme values in the data.")
    rates = tuple(config.lowest * factor**i for i in range(len(losses)))
    return RateFinding(rates, tuple(losses), tuple(_smoothed(losses)), len(losses) < config.steps)


def _smoothed(losses: Sequence[float]) -> list[float]:
    """Returns the exponential moving average of losses, each divided by the weight that it has so far."""
    mean, found = 0.0, []
    for number, loss in enumerate(losses, start=1):
        mean = _SMOOTHING * mean + (1.0 - _SMOOTHING) * loss
        found.append(mean / (1.0 - _SMOOTHING**number))
    return found
