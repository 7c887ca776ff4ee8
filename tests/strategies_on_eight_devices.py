"""Trains with every strategy on the devices that there are and keeps what came out; run by test_strategies.py.

strategies_on_eight_devices.py PARALLEL FILE
"""

import sys
import typing

import numpy as np
import tiny

import flaxtl
from flaxtl import paths
from flaxtl.config import StrategyName

SETTINGS = {"seed": 0, "cache": "off", "batch_size": 8, "learning_rate": 0.01, "validation": 0.0}
STEPPED = {"epochs": 2.0}


def trained(strategy, parallel):
    """Returns the parameters that a strategy comes to, by path, and the probabilities of some pictures."""
    more = {"auto": {"budget": None}, "contrastive": {"contrast_from": "blocks_0"}}.get(strategy, {})
    settings = {**SETTINGS, **more, **({} if strategy == "head" else STEPPED)}
    result = flaxtl.finetune(tiny.model(), tiny.source(6), strategy=strategy, parallel=parallel, **settings)
    leaves = {leaf.path: np.asarray(value) for leaf, value in paths.leaves(result.model.variables)}
    return {**leaves, "probabilities": result.model.predict(list(tiny.pictures(2, seed=1)[0])).probabilities}


if __name__ == "__main__":
    parallel, file = sys.argv[1:]
    kept = {}
    for name in typing.get_args(StrategyName):
        kept.update({f"{name}:{path}": value for path, value in trained(name, parallel).items()})
    np.savez(file, **kept)
