"""What a strategy is made of. Adding one is adding a function that returns phases, never a branch in the loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

from flaxtl.config import FinetuneConfig, PretrainConfig
from flaxtl.data import Augment
from flaxtl.errors import ConfigError, did_you_mean
from flaxtl.strategies.augmenting import on_host
from flaxtl.training_settings import FRESH_RATE, Augmentation, Contrast, Lora, Optimizer, SoundAugmentation, Training

# Of one example, where an augmentation is asked for: more cost more passes below the border and bring little.
_VIEWS = 4
# On 77 intents at 5 a class rates of 0.1 to 0.3 gained 0.5 to 2.3 points over the head (MiniLM, two draws); on ten
# intents nothing was gained, and 0.2 with more than four passes lost up to 4 points on one of three draws.
_CONTRAST_RATE = 0.1
# The rate of a cut and what the head's is multiplied by. At ten examples a class of sign language digits a new head
# with these rates came to 91.7 %, with a third of the rate to 88.7, a solved head to 87.0 (MobileNetV2, one draw); on
# flowers, which are much like the pretraining's pictures, a new head gained nothing.
_FROM_SOLVED = (0.3, 1.0)
_FROM_NEW = (0.6, 3.0)
# So many examples of a class come together in a batch that is contrasted.
_TOGETHER = 2


@dataclasses.dataclass(frozen=True)
class Phase:
    """One part of a strategy.

    Attributes:
        kind: "solve" computes features once and solves the head; "train" takes gradient steps; "average" puts the
            parameters together that the soup's training phases before it came to.
        trainable: patterns of the parameters that a "train" phase trains; the head always is, with a contrast never.
        init: "keep" starts from the parameters as they come, "fresh" draws every one anew, "again" starts from where
            the soup's first training phase did.
        start: the segment that training begins at, by name or as a share of the depth; all below is frozen, computed
            once for each example and kept. "" trains through the whole network.
        views: random changes of each example that are computed once and kept where something below is frozen.
        training: how long, how large the batches, which statistics, what is best.
        optimizer: what updates the parameters.
        augment: random changes to the training pictures.
        sound: random changes to the training sound.
        lora: adapters that are trained in place of what `trainable` names, and merged into it in the end.
        contrast: trains features to tell the classes apart, in batches of all classes alike; None trains what the head
            makes of them.
        carry: goes on with the optimizer state and the schedule of the training phase before it.
        share: which part of the steps that `training` asks for are this phase's.
        draw: a phase of another number draws its order, augmentation and dropout anew.
        member: the number of a phase in a soup, from 1 on; 0 for all others.
    """

    kind: Literal["solve", "train", "average"]
    trainable: tuple[str, ...] = ("**",)
    init: Literal["keep", "fresh", "again"] = "keep"
    start: str = ""
    views: int = 0
    training: Training = Training()
    optimizer: Optimizer = Optimizer()
    augment: Augmentation = Augmentation()
    sound: SoundAugmentation = SoundAugmentation()
    lora: Lora | None = None
    contrast: Contrast | None = None
    carry: bool = False
    share: float = 1.0
    draw: int = 0
    member: int = 0

    @property
    def together(self) -> int:
        """How many examples of a class come together in a batch; 0 leaves it to chance."""
        return 0 if self.contrast is None else _TOGETHER


def head(config: FinetuneConfig) -> tuple[Phase, ...]:
    """Option 1: the head is solved on frozen features; nothing else changes."""
    return (Phase("solve", views=config.views, training=config.training, augment=config.augment, sound=config.sound),)


def full(config: FinetuneConfig) -> tuple[Phase, ...]:
    """Option 2: everything is trained, starting from the pretrained weights and a new head.

    The weights need small steps and the head, which starts from nothing, large ones.
    """
    return soup(_everything(config, rate=0.2, head_rate=10.0))


def _everything(config: FinetuneConfig, rate: float, head_rate: float) -> Phase:
    """Returns the phase that trains on from where it is; the rates are for what the settings leave open."""
    chosen = config.optimizer
    if chosen.learning_rate is None:
        chosen = dataclasses.replace(chosen, learning_rate=rate * FRESH_RATE[chosen.optimizer])
    if chosen.head_rate is None:
        chosen = dataclasses.replace(chosen, head_rate=head_rate)
    return Phase(
        "train",
        config.trainable,
        training=config.training,
        optimizer=chosen,
        augment=config.augment,
        sound=config.sound,
    )


def lpft(config: FinetuneConfig) -> tuple[Phase, ...]:
    """LP-FT (Kumar et al. 2022): the head is solved first, then everything is trained from there."""
    return (*head(config), *soup(_everything(config, rate=0.3, head_rate=1.0)))


def cut(config: FinetuneConfig) -> tuple[Phase, ...]:
    """Between the options: the head is solved, then all above a border is trained; what lies below is computed once.

    With a new head none is solved, and the rates are larger: see `FinetuneConfig.cut_head`.
    """
    new = config.cut_head == "new"
    above = _everything(config, *(_FROM_NEW if new else _FROM_SOLVED))
    trained = soup(dataclasses.replace(above, start=config.cut, views=_views(config)))
    return trained if new else (*head(config), *trained)


def _views(config: FinetuneConfig) -> int:
    return config.views or (_VIEWS if on_host(config.augment, config.sound) != Augment() else 0)


def gradual(config: FinetuneConfig) -> tuple[Phase, ...]:
    """Gradual unfreezing (Howard and Ruder 2018): the head is solved, then training goes down to the input in stages.

    The stages have one optimizer state and one schedule, and share the steps evenly. What lies below a stage's border
    is computed once, as for the cut; mixup and cutmix join in the last stage.
    """
    whole = _everything(config, rate=0.3, head_rate=1.0)
    stages = []
    for number in range(config.stages):
        border = 1.0 - (number + 1) / config.stages
        stage = dataclasses.replace(whole, carry=number > 0, share=1.0 / config.stages, draw=number)
        if border > 0:
            stage = dataclasses.replace(stage, start=f"{border:.4f}", views=_views(config))
        stages.append(stage)
    return (*head(config), *stages)


def lora(config: FinetuneConfig) -> tuple[Phase, ...]:
    """LoRA (Hu et al. 2022): the head is solved, then it and low-rank adapters are trained and merged.

    Adapters start at zero and are few, so they bear the learning rate of training from scratch.
    """
    whole = _everything(config, rate=1.0, head_rate=1.0)
    return (*head(config), *soup(dataclasses.replace(whole, trainable=(), lora=config.lora)))


def contrastive(config: FinetuneConfig) -> tuple[Phase, ...]:
    """Features are trained to be alike within a class and unlike between classes, then the head is solved on them.

    SetFit (Tunstall et al. 2022) does so to few texts, by pairs. Here all examples of a batch are compared (supervised
    contrast; Khosla et al. 2020), and below `contrast_from` the network is left as it is.
    """
    contrast, above = config.contrast, _everything(config, rate=_CONTRAST_RATE, head_rate=1.0)
    # The batches are balanced already, and nothing is smoothed where no class is predicted.
    training = dataclasses.replace(
        config.training, batch_size=contrast.contrast_batch, class_weight="none", label_smoothing=0.0
    )
    body = dataclasses.replace(
        above, training=training, start=contrast.contrast_from, views=_views(config), contrast=contrast
    )
    return (body, *head(config))


def auto(config: FinetuneConfig) -> tuple[Phase, ...]:
    """What is certain before the data is looked at: the head is solved. `auto.search` decides about the rest."""
    return head(config)


def scratch(config: FinetuneConfig) -> tuple[Phase, ...]:
    """The control: the same network from fresh parameters, with batch statistics, since stored ones would be empty."""
    training = dataclasses.replace(config.training, statistics="batch")
    alone = Phase("train", init="fresh", training=training, optimizer=config.optimizer)
    return (dataclasses.replace(alone, augment=config.augment, sound=config.sound),)


STRATEGIES: dict[str, Callable[[FinetuneConfig], tuple[Phase, ...]]] = {
    "auto": auto,
    "head": head,
    "cut": cut,
    "lpft": lpft,
    "gradual": gradual,
    "lora": lora,
    "contrastive": contrastive,
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


def soup(phase: Phase) -> tuple[Phase, ...]:
    """Returns the phases of a soup of one: its runs, then what averages them; the phase itself where none is asked for.

    Runs differ by their seed, and for a greedy soup by their learning rate too, whose factors are 1, 0.3 and 3: an
    average of all would suffer from a rate that does badly, which the greedy choice leaves out.

    Example:
        >>> [(p.kind, p.init, p.draw) for p in soup(Phase('train', training=Training(soup=2)))]
        [('train', 'keep', 0), ('train', 'again', 1), ('average', 'keep', 0)]
    """
    number, kind = phase.training.soup, phase.training.soup_kind
    if number == 1:
        return (phase,)
    alone = dataclasses.replace(phase, training=dataclasses.replace(phase.training, wise=None))
    members = []
    for member in range(number):
        factor = (1.0, 0.3, 3.0)[member % 3] if kind == "greedy" else 1.0
        peak = factor * (phase.optimizer.learning_rate or FRESH_RATE[phase.optimizer.optimizer])
        members.append(
            dataclasses.replace(
                alone,
                init="again" if member else phase.init,
                optimizer=dataclasses.replace(phase.optimizer, learning_rate=peak),
                draw=member,
                member=member + 1,
            )
        )
    return (*members, dataclasses.replace(phase, kind="average"))


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
