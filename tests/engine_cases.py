"""Tiny training jobs that the tests of engines and of many processes run: a network, its step, its batches."""

import dataclasses
from typing import Any

import jax
import numpy as np
from flax import nnx

from flaxtl import freeze, nets
from flaxtl.card import Card, Head, Image, NetworkSpec, Text
from flaxtl.config import Optimizer
from flaxtl.nets.adapt import NnxModule
from flaxtl.pipeline import Pipeline
from flaxtl.train import init_state, make_step, mixing, model_loss, optim

CLASSES = 3
RESNET = NetworkSpec("resnet", {"depths": (1,), "widths": (16,), "stem": "cifar"})
VIT = NetworkSpec(
    "vit",
    {"grid": (2, 2), "patch": (4, 4), "width": 32, "depth": 1, "heads": 2, "hidden": 64, "dropout": 0.2},
)
BERT = NetworkSpec(
    "bert",
    {"vocabulary": 40, "positions": 16, "width": 32, "depth": 1, "heads": 2, "hidden": 64, "dropout": 0.2},
)
# Adam would blow up the rounding in gradients that are zero, such as those of the keys' biases.
SGD = Optimizer(optimizer="sgd", learning_rate=0.1, weight_decay=0.1, clip_norm=0.5)
PICTURES = Image(size=(8, 8), channels=1, mean=(0.5,), std=(0.25,))


class Nnx(nnx.Module):
    """A user's own module, with batch statistics and dropout."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.body = nnx.Conv(1, 16, (3, 3), strides=4, rngs=rngs)
        self.norm = nnx.BatchNorm(16, rngs=rngs)
        self.drop = nnx.Dropout(0.2, rngs=rngs)
        self.head = nnx.Linear(16, CLASSES, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        """Returns logits."""
        return self.head(self.drop(nnx.relu(self.norm(self.body(x)))).mean((1, 2)))


@dataclasses.dataclass(frozen=True)
class Case:
    """A network, which of it is trained, whether BatchNorm uses batch statistics, whether pictures are mixed."""

    spec: NetworkSpec = dataclasses.field(hash=False)
    live: bool = False
    trainable: tuple[str, ...] = ("**",)
    rows: int = 16
    mixed: bool = False

    def batch(self, number: int) -> dict[str, Any]:
        """Rows of this step; one of them is padding of the loader's."""
        rng = np.random.default_rng(number)
        n = self.rows
        if self.spec.family == "bert":
            lengths = rng.integers(2, 9, n)
            mask = np.arange(8) < lengths[:, None]
            inputs = {"ids": (rng.integers(4, 40, (n, 8)) * mask).astype(np.int32), "mask": mask.astype(np.int32)}
        else:
            inputs = rng.integers(0, 256, (n, 8, 8, 1)).astype(np.uint8)
        weight = rng.uniform(0.5, 1.5, n).astype(np.float32)
        weight[-1] = 0.0
        index = rng.permutation(1000)[:n].astype(np.int32)
        return {
            "inputs": inputs,
            "target": rng.integers(0, CLASSES, n).astype(np.int32),
            "weight": weight,
            "example_index": index,
        }

    def job(self) -> tuple[Any, Any]:
        """Returns (state, pure step)."""
        text = self.spec.family == "bert"
        card = Card(Text(max_length=16) if text else PICTURES, self.spec, (Head(labels=("a", "b", "c")),))
        own = self.spec.family == "custom"
        network = NnxModule(Nnx(nnx.Rngs(0)), head="head") if own else nets.build(self.spec, CLASSES)
        pipeline = _TextPipeline(network) if text else Pipeline.of(network, card)
        inputs = self.batch(0)["inputs"]
        variables = network.init(0, inputs if text else np.zeros((1, 8, 8, 1), np.float32))
        rng = np.random.default_rng(5)
        kernel = variables["params"]["head"]["kernel"]
        variables["params"]["head"]["kernel"] = rng.normal(size=kernel.shape).astype(np.float32) * 0.1
        params, stats = variables["params"], {k: v for k, v in variables.items() if k != "params"}
        labels = optim.group_labels(params, self.trainable, "head")
        tx = optim.build(SGD, labels, 8)
        live = freeze.live_statistics(labels, stats.get("batch_stats", {})) if self.live else frozenset()
        state = init_state(params, tx, labels, stats=stats, ema=True)
        change = mixing.mixer(mixup=0.4, cutmix=1.0, outputs=CLASSES) if self.mixed else None
        return state, make_step(model_loss(pipeline, live=live), tx, change=change, ema_decay=0.9, jit=False)


@dataclasses.dataclass(frozen=True)
class _TextPipeline:
    """A text network without a tokenizer's card around it."""

    network: Any

    def __call__(self, variables: Any, inputs: Any, start: int, stop: Any, mode: Any) -> Any:
        return self.network.forward(variables, inputs, start, stop, mode)


STORED = Case(RESNET)
BATCH = Case(RESNET, live=True)
HEAD = Case(RESNET, trainable=("head/**",))
TRANSFORMER = Case(VIT)
LANGUAGE = Case(BERT)
MIXED = Case(RESNET, mixed=True)
OWN = Case(NetworkSpec("custom", {}), live=True)


def run(case: Case, engine: Any = None, steps: int = 4, first: int = 0, state: Any = None) -> tuple[np.ndarray, Any]:
    """Trains; returns the losses and the last state as NumPy arrays. Without an engine as `make_step` alone does."""
    fresh, step = case.job()
    state = fresh if state is None else state
    losses = []
    if engine is None:
        step = jax.jit(step)
    else:
        step, state = engine.compile(step), engine.place_state(state)
    for number in range(first, first + steps):
        batch = case.batch(number) if engine is None else engine.place_batch(case.batch(number))
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    return np.array(losses), jax.device_get(state) if engine is None else engine.gather(state)
