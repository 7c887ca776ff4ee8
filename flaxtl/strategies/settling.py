"""Settings that depend on data and network: spelt out before phases are made, refused where they mean nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from flaxtl.card import Card
from flaxtl.config import FinetuneConfig
from flaxtl.errors import ConfigError
from flaxtl.strategies import augmenting, hyperrule
from flaxtl.strategies.averaging import NEEDS_VALIDATION
from flaxtl.strategies.checks import require_positive
from flaxtl.strategies.clock import seconds_of
from flaxtl.strategies.phases import Phase
from flaxtl.train.contrast import WHOLE_BATCHES
from flaxtl.training_settings import Training


def settled(
    config: FinetuneConfig, card: Card, labels: Sequence[str], examples: int
) -> tuple[FinetuneConfig, list[str]]:
    """Returns fine-tuning settings whose open ends are filled in from data and network, and notes for the user.

    Args:
        config: as they were asked for.
        card: of the network.
        labels: the class names.
        examples: of the training data.

    Raises:
        ConfigError: what is asked for means nothing for this data or network.
    """
    require_positive(stages=config.stages, lora_rank=config.lora.lora_rank)
    if config.budget is not None:
        seconds_of(config.budget)
    notes: list[str] = []
    _require_possible_contrast(config)
    if config.schedule_rule == "bit":
        config, notes = hyperrule.applied(config, examples)
    augment, more = augmenting.resolved(config.augment, card, labels, config.sound)
    return dataclasses.replace(config, augment=augment), [*notes, *more]


def require_meaningful(phases: Sequence[Phase], *, classification: bool, validated: bool) -> None:
    """Refuses settings that the phases would not heed.

    Args:
        phases: of a run.
        classification: whether the data has one class an example.
        validated: whether there is validation data.

    Raises:
        ConfigError: naming the setting, and what to do.
    """
    training, optimizer, augment = phases[-1].training, phases[-1].optimizer, phases[-1].augment
    trains = [phase for phase in phases if phase.kind == "train"]
    contrasted = any(phase.contrast is not None for phase in phases)
    if contrasted and not classification:
        raise ConfigError(
            "The strategy contrastive draws examples of one class together, and here an example has several labels or "
            "numbers. Set `strategy` to 'head', 'lpft' or 'full'."
        )
    if contrasted and (training.wise is not None or training.soup > 1 or augment.mixup or augment.cutmix):
        raise ConfigError(
            "`wise`, `soup`, `mixup` and `cutmix` need a head to train; contrastive trains features alone."
        )
    fresh = any(phase.init == "fresh" for phase in phases)
    if not trains and (training.wise is not None or training.soup > 1):
        raise ConfigError("`wise` and `soup` average what training comes to; the strategy head trains nothing.")
    if fresh and (training.wise is not None or training.soup > 1 or optimizer.l2_sp):
        raise ConfigError("`wise`, `soup` and `l2_sp` keep to pretrained parameters, and here all begin anew.")
    if training.soup > 1 and not any(phase.member for phase in phases):
        raise ConfigError("`soup` is for the strategies full, lpft, cut and lora.")
    greedy = training.soup > 1 and training.soup_kind == "greedy"
    if (training.wise == "auto" or greedy) and not validated:
        raise ConfigError(NEEDS_VALIDATION)
    if (augment.mixup or augment.cutmix) and not any(phase.start == "" for phase in trains):
        raise ConfigError(
            "`mixup` and `cutmix` blend pictures, and here what lies below a border is computed once, one picture at a "
            "time. Train from the pictures on, with `strategy='lpft'` or `strategy='full'`."
        )
    plain = Training()
    solved = any(getattr(training, name) != getattr(plain, name) for name in ("head", "feature_noise", "class_names"))
    if solved and not any(phase.kind == "solve" for phase in phases):
        raise ConfigError(
            "`head`, `feature_noise` and `class_names` say how a head is solved, and this strategy solves none."
        )
    if not classification and (
        training.class_weight != "none" or training.head != "logistic" or training.prior is not None
    ):
        raise ConfigError("`class_weight`, `prior` and `head` are for one class an example.")


def _require_possible_contrast(config: FinetuneConfig) -> None:
    """Refuses settings of the contrast that have the right type and an impossible value, or that it cannot heed."""
    contrast = config.contrast
    require_positive(contrast_examples=contrast.contrast_examples)
    if not 0.0 < contrast.contrast_temperature < float("inf"):
        raise ConfigError(f"`contrast_temperature` is {contrast.contrast_temperature}; expected a number above 0.")
    if not 0.0 < contrast.contrast_passes < float("inf"):
        raise ConfigError(f"`contrast_passes` is {contrast.contrast_passes}; expected a number above 0.")
    if contrast.contrast_batch < 4:
        raise ConfigError(
            f"`contrast_batch` is {contrast.contrast_batch}; expected at least 4, two examples of each of two classes."
        )
    if config.strategy == "contrastive" and config.run.microbatch is not None:
        raise ConfigError(WHOLE_BATCHES)
