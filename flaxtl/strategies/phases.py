"""What a strategy is made of. Adding one is adding a function that returns phases, never a branch in the loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

from flaxtl.config import FRESH_RATE, Augmentation, FinetuneConfig, Optimizer, PretrainConfig, Training
from flaxtl.errors import ConfigError, did_you_mean

# Of one picture, where an augmentation is asked for: more cost more passes below the border and bring little.
_VIEWS = 4


@dataclasses.dataclass(frozen=True)
class Phase:
    """One part of a strategy.

    Attributes:
        kind: "solve" computes features once and solves the head; "train" takes gradient steps.
        trainable: patterns of the parameters that a "train" phase trains; the head always is.
        init: "keep" starts from the parameters as they come, "fresh" draws every one anew.
        start: the segment that training begins at, by name or as a share of the depth; all below is frozen, computed
            once for each example and kept. "" trains through the whole network.
        views: random changes of each example that are computed once and kept where something below is frozen.
        training: how long, how large the batches, which statistics, what is best.
        optimizer: what updates the parameters.
        augment: random changes to the training pictures.
    """

    kind: Literal["solve", "train"]
    trainable: tuple[str, ...] = ("**",)
    init: Literal["keep", "fresh"] = "keep"
    start: str = ""
    views: int = 0
    training: Training = Training()
    optimizer: Optimizer = Optimizer()
    augment: Augmentation = Augmentation()


def head(config: FinetuneConfig) -> tuple[Phase, ...]:
    """Option 1: the head is solved on frozen features; nothing else changes."""
    return (Phase("solve", views=config.views, training=config.training, augment=config.augment),)


def full(config: FinetuneConfig) -> tuple[Phase, ...]:
    """Option 2: everything is trained, starting from the pretrained weights and a new head.

    The weights need small steps and the head, which starts from nothing, large ones.
    """
    return _everything(config, rate=0.2, head_rate=10.0)


def _everything(config: FinetuneConfig, rate: float, head_rate: float) -> tuple[Phase, ...]:
    """Returns the phase that trains on from where it is; the rates are for what the settings leave open."""
    chosen = config.optimizer
    if chosen.learning_rate is None:
        chosen = dataclasses.replace(chosen, learning_rate=rate * FRESH_RATE[chosen.optimizer])
    if chosen.head_rate is None:
        chosen = dataclasses.replace(chosen, head_rate=head_rate)
    return (Phase("train", config.trainable, training=config.training, optimizer=chosen, augment=config.augment),)


def lpft(config: FinetuneConfig) -> tuple[Phase, ...]:
    """LP-FT (Kumar et al. 2022): the head is solved first, then everything is trained from there."""
    return (*head(config), *_everything(config, rate=0.3, head_rate=1.0))


def cut(config: FinetuneConfig) -> tuple[Phase, ...]:
    """Between the options: the head is solved, then all above a border is trained; what lies below is computed once."""
    [above] = _everything(config, rate=0.3, head_rate=1.0)
    views = config.views or (_VIEWS if config.augment != Augmentation() else 0)
    return (*head(config), dataclasses.replace(above, start=config.cut, views=views))


def scratch(config: FinetuneConfig) -> tuple[Phase, ...]:
    """The control: the same network from fresh parameters, with batch statistics, since stored ones would be empty."""
    training = dataclasses.replace(config.training, statistics="batch")
    return (Phase("train", init="fresh", training=training, optimizer=config.optimizer, augment=config.augment),)


STRATEGIES: dict[str, Callable[[FinetuneConfig], tuple[Phase, ...]]] = {
    "head": head,
    "cut": cut,
    "lpft": lpft,
    "full": full,
    "scratch": scratch,
}


def phases_of(config: FinetuneConfig) -> tuple[Phase, ...]:
    """Returns the phases of the strategy that a config names.

    Raises:
        ConfigError: there is no such strategy.

    Example:
        >>> [phase.kind for phase in phases_of(FinetuneConfig(strategy='lpft'))]
        ['solve', 'train']
    """
    if config.strategy not in STRATEGIES:
        raise ConfigError(f"There is no strategy {config.strategy!r}.{did_you_mean(config.strategy, STRATEGIES)}")
    return STRATEGIES[config.strategy](config)


def pretraining(config: PretrainConfig) -> tuple[Phase, ...]:
    """Supervised pre-training from scratch."""
    return (Phase("train", init="fresh", training=config.training, optimizer=config.optimizer, augment=config.augment),)


def epochs_for(examples: int) -> int:
    """Returns how often a small data set is gone through when nothing else is asked.

    At least ten times, and for very few examples often enough to see about 4,000 of them, which is where
    fine-tuning a few dozen pictures stops improving; never more than 200 times.

    Example:
        >>> [epochs_for(n) for n in (5, 50, 500, 5000)]
        [200, 80, 10, 10]
    """
    return min(200, max(10, -(-4000 // max(examples, 1))))
