"""The settings of how a network is trained: its optimizer, its augmentation, its length, its adapters.

They are part of `config`'s commands, and like it they import nothing that is heavy.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

Statistics = Literal["stored", "batch"]

# The learning rate of a network that is trained from scratch.
FRESH_RATE = {"adamw": 1e-3, "sgd": 1e-2}


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """What updates the trained parameters."""

    optimizer: Literal["adamw", "sgd"] = "adamw"
    """AdamW (Loshchilov and Hutter 2019), or SGD with Nesterov momentum."""
    learning_rate: float | None = None
    """At the schedule's peak; by default 0.001 for AdamW and 0.01 for SGD, and from pretrained weights a fifth (full),
    three tenths (lpft) or six tenths (cut with a new head) of that."""
    head_rate: float | None = None
    """What the head's learning rate is multiplied by; by default 10 where a new head meets pretrained weights (full; 3
    in a cut), else 1."""
    weight_decay: float = 1e-4
    """Per step, times the learning rate; on kernels only, never on biases or scales."""
    momentum: float = 0.9
    """SGD momentum."""
    clip_norm: float | None = 1.0
    """Clip the global gradient norm to this."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after the warm-up."""
    warmup: float = 0.1
    """The share of all steps in which the learning rate rises from zero."""
    layer_decay: float = 1.0
    """Each part's learning rate is this times that of the next part nearer the head; 0.75 is usual for vision
    transformers, 0.9 elsewhere, 1 gives all the same."""
    l2_sp: float = 0.0
    """Pulls what is trained of the backbone to where it started, in place of its weight decay (L2-SP; Li et al. 2018);
    per step, times the learning rate."""


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random changes to training pictures. Nothing is changed by default."""

    augment: Literal["none", "standard", "auto"] = "none"
    """standard is for photographs: a random crop of 25 to 100 % of the area, mirrored half of the time; auto takes it
    where that is legitimate; none changes only what the settings below say."""
    flip: bool = False
    """Mirror left and right; not for digits or letters."""
    crop_scale: tuple[float, float] | None = None
    """Crop a random part of this share of the area (random resized crop)."""
    degrees: float = 0.0
    """Turn by up to this angle."""
    shear: float = 0.0
    """Shear by up to this angle, in degrees."""
    zoom: tuple[float, float] = (1.0, 1.0)
    """Scale by a factor in this range."""
    shift: float = 0.0
    """Move by up to this share of the size."""
    min_resolution: int | None = None
    """Shrink to a random side of at least this many pixels and enlarge again."""
    thickness: float = 0.0
    """The probability of making strokes thicker by one or two pixels a side, or (rarely) thinner by one."""
    brightness: float = 0.0
    """Change the brightness by up to this share."""
    contrast: float = 0.0
    """Change the contrast by up to this share."""
    noise: float = 0.0
    """Add Gaussian noise of up to this standard deviation, in units of the value range."""
    rand_augment: tuple[int, float] | None = None
    """So many changes drawn for each picture and how strong they are, from 0 to 10 (RandAugment; Cubuk et al. 2020),
    such as 2 9; it turns and shears, and never mirrors."""
    mixup: float = 0.0
    """Blend pairs of pictures and their labels, by shares from Beta(this, this) (Zhang et al. 2018); 0.1 to 0.4 is
    usual."""
    cutmix: float = 0.0
    """Paste a rectangle of another picture, and its share of the label (Yun et al. 2019); 1 is usual. With mixup each
    picture gets one of the two."""


@dataclasses.dataclass(frozen=True)
class SoundAugmentation:
    """Random changes to training sound. Nothing is changed by default."""

    gain: float = 0.0
    """Make louder or softer by up to so many dB."""
    time_shift: float = 0.0
    """Move by up to so many seconds, and by no more than half of the clip; what is left empty is silence."""
    snr: tuple[float, float] | None = None
    """Add white noise that lies so many dB below the clip, a ratio from this range, such as 10 40."""
    time_masks: tuple[int, float] | None = None
    """Hide so many stretches of time, each of up to this share of the clip (SpecAugment; Park et al. 2019), such as
    2 0.2."""
    frequency_masks: tuple[int, float] | None = None
    """Hide so many bands of frequency, each of up to this share of all, such as 2 0.2."""


@dataclasses.dataclass(frozen=True)
class Training:
    """How long and how a network is trained."""

    epochs: float | None = None
    """Passes over the data; by default chosen from the number of examples."""
    batch_size: int = 32
    """Examples a step."""
    statistics: Statistics = "stored"
    """Whether BatchNorm normalises with stored statistics or with the batch's; frozen layers always with the stored."""
    label_smoothing: float = 0.0
    """The share of each target that is spread evenly over the classes."""
    ema: float | None = None
    """Decay a step of a moving average of the parameters, which is then what is evaluated and saved."""
    validation: float = 0.0
    """The share of the training data held out to choose the best step; 0 uses a val folder if there is one."""
    monitor: Literal["accuracy", "loss"] = "accuracy"
    """Which validation figure decides what is best."""
    patience: int | None = None
    """Stop after this many evaluations without a better one."""
    save_every: int | None = None
    """Evaluate and save each so many steps; by default ten times a phase."""
    class_weight: Literal["none", "auto"] | dict[str, float] = "none"
    """What classes count: none is each example the same, auto is each class the same where their sizes differ by more
    than a factor of 1.5, or a factor for single classes by name. Probabilities hold for the shares that result."""
    prior: Literal["training", "equal"] | dict[str, float] | None = None
    """The class shares to expect in use, for which probabilities are to hold: those of the training data, equal ones,
    or a share for each class by name; by default those that the class weights imply."""
    head: Literal["logistic", "mean", "ridge"] = "logistic"
    """What a solved head is: logistic regression, the nearest class mean, or ridge regression on the classes."""
    feature_noise: float = 0.0
    """Adds four copies of each example's features, their brightness changed channel by channel by up to this share of
    the channel's range (FroFA; Bär et al. 2024); 0.1 to 1 were tried there. For solved heads with few examples."""
    class_names: Literal["auto", "use", "ignore"] = "auto"
    """Whether a solved head learns from what the classes of texts are called, as from one more example of each: auto
    tries it with few examples, and keeps it where held-out examples gain."""
    wise: float | Literal["auto"] | None = None
    """WiSE-FT interpolation coefficient alpha, from the parameters before training (0) to those after it (1)
    (Wortsman et al. 2022); auto selects it on validation data."""
    soup: int = 1
    """Train so many times, by other seeds, and average the parameters (model soups; Wortsman et al. 2022)."""
    soup_kind: Literal["uniform", "greedy"] = "uniform"
    """uniform averages all; greedy also varies the learning rate, and adds one after the other, from the best on, while
    the validation loss falls."""


@dataclasses.dataclass(frozen=True)
class Contrast:
    """Contrastive tuning: what the strategy contrastive does to the backbone before the head is solved."""

    contrast_temperature: float = 0.1
    """What cosine similarities are divided by; the smaller, the more the nearest examples of other classes count."""
    contrast_passes: float = 4.0
    """Passes over the data, where --epochs is not set; more passes overfit small sets."""
    contrast_examples: int = 4096
    """Upper limit of examples seen in all passes, where --epochs is not set."""
    contrast_batch: int = 64
    """Examples a step, which are all compared with each other."""
    contrast_from: str = "0.6"
    """Where the trained part of the network begins: as --cut, or 0 for the whole network."""


@dataclasses.dataclass(frozen=True)
class Lora:
    """Low-rank adapters (LoRA; Hu et al. 2022): what the strategy lora trains beside the head."""

    lora_rank: int = 8
    """LoRA rank."""
    lora_alpha: float = 16.0
    """LoRA alpha; the update is scaled by alpha / rank."""
    lora_patterns: tuple[str, ...] = ()
    """Patterns of the kernels; by default the dense ones and 1×1 convolutions between the first part and the head, or
    all convolutions where those are few."""
