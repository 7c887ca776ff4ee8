"""Class names as examples: where the input is text, what a class is called is a text of it."""

from __future__ import annotations

import re
from typing import Any, Literal

import numpy as np

from flaxtl import metrics
from flaxtl.data import Source
from flaxtl.errors import ConfigError
from flaxtl.probe.results import SolvedHead
from flaxtl.probe.search import solve_head
from flaxtl.probe.simple_heads import unit_length

ClassNames = Literal["auto", "use", "ignore"]
# With more examples of a class than this its name says little that they do not.
ENOUGH = 32
# Where nothing can be held out, names are trusted that surely find the class of examples so many times as often as
# chance would: of two classes never, of ten from five of ten right on.
_SURELY = 2.0
_USED, _LEFT_OUT = "the class names count as examples", "the class names are left out"
_JOINTS = re.compile(r"[\W_]+|(?<=[a-z])(?=[A-Z])")


def phrase(label: str) -> str:
    """Returns a class name as words: joints of identifiers become spaces.

    Example:
        >>> phrase('card_arrival'), phrase('lostOrStolen-card')
        ('card arrival', 'lost Or Stolen card')
    """
    return " ".join(part for part in _JOINTS.split(label) if part)


def named_examples(source: Source) -> Source | None:
    """Returns the names of a source's classes as one text of each, or None where they are no texts of them.

    Args:
        source: the labelled examples; single texts of one class each, not pairs of texts.

    Example:
        >>> named_examples(Source.of('text', ['Where is it?', 'Hi'], ['card_arrival', 'greeting'])).raw
        ['card arrival', 'greeting']
        >>> named_examples(Source.of('text', ['Where is it?', 'Hi'], ['0', '1'])) is None
        True
    """
    if source.modality != "text" or source.task != "classification":
        return None
    texts = [phrase(label) for label in source.labels]
    words = all(any(letter.isalpha() for letter in text) for text in texts)
    if not words or len(set(texts)) < len(texts) or not all(isinstance(raw, str) for raw in source.raw):
        return None
    return Source.of(
        "text", texts, source.labels, labels=source.labels, keys=[f"the name {n!r}" for n in source.labels]
    )


def names_to_learn(source: Source, class_names: ClassNames) -> Source | None:
    """Returns the class names as examples where they are to be tried, or None.

    Args:
        source: the labelled examples.
        class_names: "auto" tries them where classes have few examples, "use" takes them, "ignore" does not.

    Raises:
        ConfigError: they are to be used and cannot be.
    """
    named = None if class_names == "ignore" else named_examples(source)
    if class_names == "use" and named is None:
        raise ConfigError(
            "`class_names='use'`: the class names cannot count as examples here; expected single texts with one class "
            "each, whose names are words and differ. Rename the classes, or leave the setting out."
        )
    if named is None or class_names == "use":
        return named
    counts = np.bincount(source.targets, minlength=len(source.labels))
    return named if np.median(counts[counts > 0]) <= ENOUGH else None


def solve_with_names(
    features: np.ndarray,
    targets: np.ndarray,
    names: np.ndarray,
    *,
    class_names: ClassNames = "auto",
    tuned: bool = False,
    sample_weight: np.ndarray | None = None,
    groups: list[str] | None = None,
    **settings: Any,
) -> tuple[SolvedHead, bool, str]:
    """Solves a head on examples, and on them together with the names of their classes, and returns the better one.

    The held-out loss decides; names are in every fold's training part and never held out. Where nothing can be held
    out, or these examples have shaped the features, names are used if they alone tell the examples apart
    (`tell_apart`).

    Args:
        features: float [n, d], of the examples.
        targets: int [n].
        names: float [classes, d], features of the names; each counts as much as an example of weight 1.
        class_names: "use" takes the names without asking whether they help.
        tuned: whether the features were trained on these examples.
        sample_weight: float [n].
        groups: one an example.
        settings: of `solve_head`.

    Returns:
        (the head, whether the names count as examples, a sentence about it).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> y = np.arange(16) % 8
        >>> solve_with_names(np.eye(8)[y] + 0.3 * rng.normal(size=(16, 8)), y, np.eye(8))[1]
        True
    """
    n, classes = len(features), len(names)
    weight = np.ones(n) if sample_weight is None else np.asarray(sample_weight)
    clear = tuned and tell_apart(names, features, targets)
    if tuned and not clear and class_names == "auto":
        head = solve_head(features, targets, classes, sample_weight=weight, groups=groups, **settings)
        return head, False, f"{_LEFT_OUT} (they alone do not tell the examples apart)"
    named = solve_head(
        np.concatenate([features, names]),
        np.concatenate([targets, np.arange(classes)]),
        classes,
        sample_weight=np.concatenate([weight, np.ones(classes)]),
        groups=None if groups is None else [*groups, *(f"name {c}" for c in range(classes))],
        taught=np.arange(n + classes) >= n,
        **settings,
    )
    if class_names == "use":
        return named, True, f"{_USED}, as asked"
    if clear:
        return named, True, f"{_USED} (they alone tell the examples apart)"
    plain = solve_head(features, targets, classes, sample_weight=weight, groups=groups, **settings)
    if named.cv.best is not None and plain.cv.best is not None:
        losses = f"held-out loss {named.cv.best.loss:.3f}, without them {plain.cv.best.loss:.3f}"
        helps = named.cv.best.loss < plain.cv.best.loss
    else:
        helps = tell_apart(names, features, targets)
        losses = "nothing can be held out, and they alone " + ("do" if helps else "do not") + " tell the examples apart"
    return (named if helps else plain), helps, f"{_USED if helps else _LEFT_OUT} ({losses})"


def tell_apart(names: np.ndarray, features: np.ndarray, targets: np.ndarray) -> bool:
    """Says whether the names alone, each example given to the most similar one, surely beat chance by far.

    Args:
        names: float [classes, d], the features of the names.
        features: float [n, d], of examples.
        targets: int [n].

    Example:
        >>> tell_apart(np.eye(8), np.eye(8), np.arange(8)), tell_apart(np.eye(8), np.eye(8), np.arange(8)[::-1])
        (True, False)
    """
    nearest = (unit_length(features) @ unit_length(names).T).argmax(1)
    return metrics.wilson(float(np.sum(nearest == targets)), len(targets)).low > _SURELY / len(names)
