"""BiT-HyperRule (Kolesnikov et al. 2020, section 3.3): a schedule by the number of examples, as a table of data."""

from __future__ import annotations

import dataclasses

from flaxtl.config import FinetuneConfig


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the rule.

    Attributes:
        below: it is for fewer examples than this; None for any number.
        steps: of training.
        mixup: the α of mixup.
    """

    below: int | None
    steps: int
    mixup: float


# The rule's batches hold 512 examples and its rate is 0.003 for SGD with momentum; these are left to the settings.
ROWS = (Row(20_000, 500, 0.0), Row(500_000, 10_000, 0.1), Row(None, 20_000, 0.1))
# The side of the pictures, by the area of the originals in pixels.
SMALL_AREA, SMALL_SIDE, LARGE_SIDE = 96 * 96, 128, 480


def row_for(examples: int) -> Row:
    """Returns the row for a number of examples.

    Example:
        >>> row_for(500).steps, row_for(50_000).mixup, row_for(10**6).steps
        (500, 0.1, 20000)
    """
    return next(row for row in ROWS if row.below is None or examples < row.below)


def table() -> str:
    """Returns the rule as lines of text.

    Example:
        >>> print(table().splitlines()[1])
        fewer than 20,000           500      0
    """
    lines = ["examples                  steps  mixup"]
    for row in ROWS:
        name = "more" if row.below is None else f"fewer than {row.below:,}"
        lines.append(f"{name:<22} {row.steps:>8,} {row.mixup:>6g}")
    lines.append(f"pictures of fewer than {SMALL_AREA:,} pixels: {SMALL_SIDE} a side, larger ones: {LARGE_SIDE} a side")
    return "\n".join(lines)


def applied(config: FinetuneConfig, examples: int) -> tuple[FinetuneConfig, list[str]]:
    """Returns the settings with the rule's row where they are open, and what to tell the user.

    The steps are the rule's, whatever the batch size; `training.epochs` and `augment.mixup` come before it. The size of
    the pictures is said and not set, since it decides how long everything takes.

    Args:
        config: whose `schedule_rule` is not "none".
        examples: of the training data.
    """
    row, training, augment = row_for(examples), config.training, config.augment
    if training.epochs is None:
        batches = -(-examples // min(training.batch_size, examples))
        training = dataclasses.replace(training, epochs=row.steps / batches)
    if augment.mixup == 0.0 and config.strategy in ("full", "lpft", "lora"):
        augment = dataclasses.replace(augment, mixup=row.mixup)
    kind = "any number" if row.below is None else f"fewer than {row.below:,}"
    note = (
        f"BiT-HyperRule, row of {kind} examples: {row.steps:,} steps, mixup {row.mixup:g}; it would take pictures of "
        f"{SMALL_SIDE} pixels a side where the originals have fewer than {SMALL_AREA:,}, else {LARGE_SIDE} (`size`)."
    )
    return dataclasses.replace(config, training=training, augment=augment), [note]
