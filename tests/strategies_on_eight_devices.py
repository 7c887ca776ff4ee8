"""Trains with every strategy on the devices that there are and keeps what came out; run by test_strategies.py.

strategies_on_eight_devices.py NETWORK PARALLEL FILE [--microbatch N]
    [--coordinator ADDRESS --processes N --process-id I]
"""

import argparse
import typing
from pathlib import Path

import engine_cases as cases
import jax
import numpy as np
import tiny
import tiny_text

import flaxtl
from flaxtl import nets, paths, processes
from flaxtl.card import Card, Head
from flaxtl.config import StrategyName
from flaxtl.data import Source
from flaxtl.model import Model

SETTINGS = {"seed": 0, "cache": "off", "batch_size": 8, "validation": 0.0}
STEPPED = {"epochs": 2.0}
# Adam would blow up the rounding in gradients that are zero, which those of attention's keys' biases are.
OPTIMIZERS = {
    "resnet": {"learning_rate": 0.01},
    "vit": {"optimizer": "sgd", "learning_rate": 0.1},
    "bert": {"optimizer": "sgd", "learning_rate": 0.1},
}


def given(network, folder):
    """Returns a model and data for it; the tokenizer of a model of texts is written into a folder."""
    if network == "bert":
        model = tiny_text.text_model(tiny_text.write_tokenizer(folder))
        return model, Source.of("text", *tiny_text.sentences(16))
    if network == "resnet":
        return tiny.model(), tiny.source(6)
    built = nets.build(cases.VIT, 0)
    model = Model(built, {}, Card(cases.PICTURES, cases.VIT, (Head(labels=()),)))
    return model.with_variables(built.init(0, np.zeros((1, 8, 8, 1), np.float32))), tiny.source(6)


def trained(network, strategy, folder, **engine):
    """Returns the parameters that a strategy comes to, by path, and the probabilities of the training data."""
    more = {"auto": {"budget": None}, "contrastive": {"contrast_from": "blocks_0"}}.get(strategy, {})
    settings = {**SETTINGS, **OPTIMIZERS[network], **more, **({} if strategy == "head" else STEPPED)}
    model, source = given(network, folder)
    result = flaxtl.finetune(model, source, strategy=strategy, **engine, **settings)
    leaves = {leaf.path: np.asarray(value) for leaf, value in paths.leaves(result.model.variables)}
    return {**leaves, "probabilities": result.model.predict(list(source.raw)).probabilities}


def main():
    """Does what the words ask for; of several processes the first writes the file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("network", choices=OPTIMIZERS)
    parser.add_argument("parallel")
    parser.add_argument("file", type=Path)
    parser.add_argument("--microbatch", type=int)
    parser.add_argument("--coordinator")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--process-id", type=int)
    words = parser.parse_args()
    with processes.connected(words.coordinator, words.processes, words.process_id):
        folder = words.file.with_suffix(f".{processes.index()}")
        folder.mkdir()
        kept = {"devices": np.array([jax.device_count(), jax.local_device_count()])}
        names = set(typing.get_args(StrategyName))
        # A contrast compares a whole batch.
        for name in sorted(names - {"contrastive"} if words.microbatch else names):
            engine = {"parallel": words.parallel, "microbatch": words.microbatch}
            found = trained(words.network, name, folder, **engine)
            kept.update({f"{name}:{path}": value for path, value in found.items()})
        if processes.first():
            np.savez(words.file, **kept)


if __name__ == "__main__":
    main()
