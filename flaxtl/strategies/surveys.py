"""Jobs that look before anything is trained: heads at every depth, and networks side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flaxtl import data
from flaxtl.activations import Store
from flaxtl.convert import load
from flaxtl.data import Source
from flaxtl.model import Model
from flaxtl.probe.depth import DepthProbe, probe_depths
from flaxtl.probe.ranking import Ranking
from flaxtl.probe.ranking import rank as ranked
from flaxtl.probe_settings import ProbeConfig, RankConfig
from flaxtl.strategies.checks import require_labelled, require_positive
from flaxtl.strategies.given import fitted, opened
from flaxtl.train.progress import progress_bar


def probe(
    model: Model | str,
    examples: Any,
    config: ProbeConfig = ProbeConfig(),  # noqa: B008
    *,
    shown: bool = False,
) -> DepthProbe:
    """Solves a head at every depth of a network.

    Args:
        model: a `Model`, or what `flaxtl.load` takes.
        examples: labelled data, as `finetune` takes it.
        config: which examples, the seed, and where averages are kept.
        shown: whether a progress bar is shown.

    Returns:
        Cross-validated accuracy by depth, and the cut that it proposes.

    Raises:
        FlaxtlError: what was given cannot be used; the message says why and what to do.

    Example:
        >>> from flaxtl.data import digits
        >>> found = probe('flaxtl:characters', digits(), ProbeConfig(examples_per_class=3, cache='off'))
        >>> [depth.segment for depth in found.depths]
        ['stem', 'blocks_0', 'blocks_1', 'blocks_2', 'pool']
    """
    base = model if isinstance(model, Model) else load(model)
    source = _chosen(examples, config)
    base.card.require_modality(source.modality)
    base = fitted(base, source)
    with progress_bar("depths", len(source), shown=shown) as report:
        return probe_depths(
            base, source, store=store_at(config.cache), seed=config.seed, report=lambda done: report(done, "")
        )


def rank(models: Sequence[Model | str], examples: Any, config: RankConfig = RankConfig()) -> Ranking:  # noqa: B008
    """Ranks pretrained networks by what a head on their frozen features is worth.

    Args:
        models: each a `Model`, or what `flaxtl.load` takes.
        examples: labelled data, as `finetune` takes it.
        config: which examples, the seed, and where features are kept.

    Returns:
        The networks, the best first.

    Raises:
        FlaxtlError: what was given cannot be used; the message says why and what to do.
    """
    source = _chosen(examples, config)
    named = [
        (f"model {number}", fitted(one, source)) if isinstance(one, Model) else (one, fitted(load(one), source))
        for number, one in enumerate(models, start=1)
    ]
    return ranked(named, source, store=store_at(config.cache), seed=config.seed)


def store_at(place: str, limit: float = 10e9) -> Store | None:
    """Returns the store that a setting names: "auto" is the user's own, "off" none."""
    if place == "off":
        return None
    return Store.of_user(limit=limit) if place == "auto" else Store(place, limit=limit)


def _chosen(examples: Any, config: ProbeConfig | RankConfig) -> Source:
    require_positive(examples_per_class=config.examples_per_class)
    source = opened(examples, config.data_options, config.seed).train
    require_labelled(source, least=2)
    if config.examples_per_class is None:
        return source
    return source.subset(data.few_shot(source, config.examples_per_class, config.seed)[0])
