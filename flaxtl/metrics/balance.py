"""How unequal classes are, what a constant answer would score, and which classes a model never predicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flaxtl.errors import listed

# The largest class has more than so many times the examples of the smallest: unequal enough to mislead.
UNEQUAL = 3.0
REMEDY = "add examples of the missing classes, or train with `class_weight='auto'`"


class Majority(NamedTuple):
    """The most frequent class, and its share: the accuracy of always answering it."""

    label: str
    share: float

    def __str__(self) -> str:
        return f"always answering {self.label!r}: {self.share:.1%}"


def majority_of(counts: np.ndarray, labels: Sequence[str]) -> Majority:
    """Returns the majority class; of equals the first.

    Args:
        counts: [c], number or total weight of the examples of each class; not all 0.
        labels: c class names.

    Example:
        >>> print(majority_of(np.array([2, 6]), ['rose', 'daisy']))
        always answering 'daisy': 75.0%
    """
    counts = np.asarray(counts, np.float64)
    k = int(counts.argmax())
    return Majority(str(labels[k]), float(counts[k] / counts.sum()))


def unequal_note(counts: np.ndarray, labels: Sequence[str], *, weighted: bool = False) -> str:
    """Returns what unequal classes mean for the result, or nothing where they are about equal.

    Args:
        counts: [c], number of training examples of each class; classes without any are not compared.
        labels: c class names.
        weighted: whether training already gives each class the same weight.

    Example:
        >>> unequal_note(np.array([3, 1]), ['daisy', 'rose'])
        ''
        >>> print(unequal_note(np.array([10, 3, 2]), ['daisy', 'dandelion', 'rose']))
        Unequal classes: daisy has 10 examples, but these have less than a third of that: dandelion (3), rose (2). \
Accuracy mostly reflects the large classes, so read balanced accuracy and recall beside it; if small classes are \
missed, add examples of them or train with `class_weight='auto'`.
    """
    counts = np.asarray(counts)
    there = np.flatnonzero(counts > 0)
    if len(there) < 2:
        return ""
    most = there[counts[there].argmax()]
    small = [k for k in there if counts[most] > UNEQUAL * counts[k]]
    if not small:
        return ""
    named = listed(f"{labels[int(k)]} ({counts[k]:g})" for k in small)
    remedy = "add examples of them" if weighted else "add examples of them or train with `class_weight='auto'`"
    return (
        f"Unequal classes: {labels[most]} has {counts[most]:g} examples, but these have less than a third of that: "
        f"{named}. Accuracy mostly reflects the large classes, so read balanced accuracy and recall beside it; if "
        f"small classes are missed, {remedy}."
    )


def unpredicted_note(confusion: np.ndarray, labels: Sequence[str], remedy: str = REMEDY) -> str:
    """Returns a note where classes with examples are never predicted, or nothing.

    One example that is misclassified says nothing of its class, so that a class needs two to be named, unless
    all examples are given the same answer.

    Args:
        confusion: [c, c], number or weight of examples by (target, prediction).
        labels: c class names.
        remedy: what to do about it, as the end of a sentence.

    Example:
        >>> print(unpredicted_note(np.array([[30, 0, 0], [20, 0, 0], [10, 0, 0]]), ['daisy', 'rose', 'tulip']))
        Predicts only 1 of 3 classes: daisy. The model does not tell the classes apart on these examples, whatever \
its accuracy; add examples of the missing classes, or train with `class_weight='auto'`.
    """
    table = np.asarray(confusion, np.float64)
    actual, predicted = table.sum(1), table.sum(0)
    classes = int(((actual > 0) | (predicted > 0)).sum())
    answers = np.flatnonzero(predicted > 0)
    missing = np.flatnonzero((actual > 0) & (predicted == 0))
    if len(answers) == 1 and len(missing) and table.sum() > 1:
        return (
            f"Predicts only 1 of {classes} classes: {labels[answers[0]]}. The model does not tell the classes apart on "
            f"these examples, whatever its accuracy; {remedy}."
        )
    missing = missing[actual[missing] > 1]
    if not len(missing):
        return ""
    named = listed(str(labels[k]) for k in missing)
    share = actual[missing].sum() / actual.sum()
    return (
        f"Predicts only {len(answers)} of {classes} classes; never predicted: {named}. All their examples "
        f"({share:.1%} of all) are misclassified; {remedy}."
    )
