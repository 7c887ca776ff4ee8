"""How others fine-tune with PyTorch, each as its own documentation does; every recipe trains a network in place.

tutorial_*: PyTorch's "Transfer Learning for Computer Vision" tutorial. fastai: `Learner.fine_tune` and `fit_one_cycle`
of fastai 2. transformers: the text classification example of Hugging Face. setfit: Tunstall et al. 2022, "Efficient
Few-Shot Learning Without Prompts". None is given a validation set, since the labels are few: the last state counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from small_data.torch_data import Inputs, shuffled
from small_data.torch_networks import Network

Recipe = Callable[[Network, Inputs, np.ndarray, np.ndarray, dict[str, Any], np.random.Generator], None]


def epoch(
    model: Network, inputs: Inputs, rows: np.ndarray, targets: np.ndarray, size: int, rng: np.random.Generator
) -> Iterator[torch.Tensor]:
    """Yields the loss of each batch, the model in training mode."""
    model.train()
    target_of = dict(zip(rows.tolist(), targets.tolist()))
    for some in shuffled(rows, size, rng):
        logits = model(inputs.batch(some, train=True))
        yield functional.cross_entropy(logits, torch.tensor([target_of[int(row)] for row in some]))


def _freeze(module: nn.Module, frozen: bool) -> None:
    for parameter in module.parameters():
        parameter.requires_grad_(not frozen)


def tutorial(
    model: Network,
    inputs: Inputs,
    rows: np.ndarray,
    targets: np.ndarray,
    settings: dict[str, Any],
    rng: np.random.Generator,
) -> None:
    """SGD with momentum, a tenth of the rate each seven epochs; the whole network, or its head alone."""
    _freeze(model.body, settings["frozen"])
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=settings["learning_rate"], momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    for _ in range(settings["epochs"]):
        for loss in epoch(model, inputs, rows, targets, settings["batch_size"], rng):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()


def _between(start: float, end: float, share: float) -> float:
    """Cosine annealing."""
    return end + (start - end) * (1.0 + math.cos(math.pi * share)) / 2.0


def one_cycle(step: int, steps: int, peak: float, div: float, rising: float) -> tuple[float, float]:
    """Returns fastai's (learning rate, momentum) of a step: cosine up from peak / div, cosine down to peak / 1e5."""
    share = step / steps
    if share < rising:
        return _between(peak / div, peak, share / rising), _between(0.95, 0.85, share / rising)
    down = (share - rising) / (1.0 - rising)
    return _between(peak, peak / 1e5, down), _between(0.85, 0.95, down)


def _groups(model: Network) -> list[dict[str, Any]]:
    """Body and head, each with and without weight decay (biases and normalisation have none)."""
    groups = []
    for place, part in enumerate((model.body, model.head)):
        kernels = [p for p in part.parameters() if p.ndim > 1]
        others = [p for p in part.parameters() if p.ndim <= 1]
        groups += [{"params": kernels, "place": place}, {"params": others, "place": place, "weight_decay": 0.0}]
    return groups


def _normalisations(model: nn.Module) -> Iterator[nn.Module]:
    return (m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))


def fastai(
    model: Network,
    inputs: Inputs,
    rows: np.ndarray,
    targets: np.ndarray,
    settings: dict[str, Any],
    rng: np.random.Generator,
) -> None:
    """One epoch of the head (and of BatchNorm, as fastai does), then all with the body at a hundredth of the rate."""
    size = min(settings["batch_size"], len(rows))
    optimizer = torch.optim.AdamW(_groups(model), lr=0.0, weight_decay=0.01, eps=1e-5)
    rate = settings["learning_rate"]
    _freeze(model.body, True)
    for layer in _normalisations(model.body):
        _freeze(layer, False)
    _cycle(model, inputs, rows, targets, rng, optimizer, settings["frozen_epochs"], size, (rate / 10, rate), 25.0, 0.99)
    _freeze(model.body, False)
    rates = (rate / 2 / 100, rate / 2)
    _cycle(model, inputs, rows, targets, rng, optimizer, settings["epochs"], size, rates, 5.0, 0.3)


def _cycle(
    model: Network,
    inputs: Inputs,
    rows: np.ndarray,
    targets: np.ndarray,
    rng: np.random.Generator,
    optimizer: torch.optim.AdamW,
    epochs: int,
    size: int,
    rates: tuple[float, float],
    div: float,
    rising: float,
) -> None:
    steps, step = epochs * -(-len(rows) // size), 0
    for _ in range(epochs):
        for loss in epoch(model, inputs, rows, targets, size, rng):
            for group in optimizer.param_groups:
                group["lr"], momentum = one_cycle(step, steps, rates[group["place"]], div, rising)
                group["betas"] = (momentum, 0.99)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1


def transformers(
    model: Network,
    inputs: Inputs,
    rows: np.ndarray,
    targets: np.ndarray,
    settings: dict[str, Any],
    rng: np.random.Generator,
) -> None:
    """AdamW on everything, the rate rising over a tenth of the steps and then falling to 0."""
    steps = settings["epochs"] * -(-len(rows) // settings["batch_size"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings["learning_rate"], weight_decay=0.01)
    schedule = _linear(optimizer, steps)
    for _ in range(settings["epochs"]):
        for loss in epoch(model, inputs, rows, targets, settings["batch_size"], rng):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def _linear(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    warm = max(1, math.ceil(0.1 * steps))
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / warm, max(0.0, (steps - s) / max(1, steps - warm)))
    )


def pairs_of(targets: np.ndarray, iterations: int, most: int, rng: np.random.Generator) -> list[tuple[int, int, float]]:
    """Returns (one, other, whether alike) for SetFit: for each example so many of its class and as many of others.

    Args:
        targets: int [n].
        iterations: pairs of each kind an example.
        most: more pairs than these are cut to a random part.
        rng: what draws.
    """
    pairs = []
    for one, target in enumerate(targets):
        alike = np.flatnonzero((targets == target) & (np.arange(len(targets)) != one))
        unlike = np.flatnonzero(targets != target)
        for others, value in ((alike, 1.0), (unlike, 0.0)):
            if len(others):
                pairs += [(one, int(other), value) for other in rng.choice(others, iterations)]
    return [pairs[i] for i in rng.permutation(len(pairs))[:most]]


def setfit(
    model: Network,
    inputs: Inputs,
    rows: np.ndarray,
    targets: np.ndarray,
    settings: dict[str, Any],
    rng: np.random.Generator,
) -> None:
    """Tunes the body so that cosines say which pairs are alike; the head is fitted by scikit-learn afterwards."""
    pairs, size = pairs_of(targets, settings["iterations"], settings["most_pairs"], rng), settings["batch_size"]
    optimizer = torch.optim.AdamW(model.body.parameters(), lr=settings["learning_rate"], weight_decay=0.01)
    schedule = _linear(optimizer, -(-len(pairs) // size))
    model.train()
    for first in range(0, len(pairs), size):
        ones, others, alike = zip(*pairs[first : first + size])
        vectors = model.body(inputs.batch(rows[list(ones + others)], train=True))
        cosines = functional.cosine_similarity(vectors[: len(ones)], vectors[len(ones) :])
        loss = functional.mse_loss(cosines, torch.tensor(alike))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


RECIPES: dict[str, Recipe] = {
    "tutorial_head": tutorial,
    "tutorial_full": tutorial,
    "fastai": fastai,
    "transformers": transformers,
    "setfit": setfit,
}


def embedded(model: nn.Module, inputs: Inputs, rows: Sequence[int] | np.ndarray, size: int) -> np.ndarray:
    """Returns what a module says of rows, in evaluation mode, [rows, …]."""
    model.eval()
    with torch.inference_mode():
        parts = [model(inputs.batch(rows[first : first + size], train=False)) for first in range(0, len(rows), size)]
    return torch.cat(parts).numpy()
