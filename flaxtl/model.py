"""A model: a network, its variables, and the card that says what goes in and what comes out. Immutable."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxtl import checkpoint, paths, surgery
from flaxtl.card import Array, Card, Task
from flaxtl.data import Entry, Loader, Source, as_source
from flaxtl.data.loader import rows_of
from flaxtl.errors import CheckpointError, ConfigError, DataError, TrainingError, listed, shown
from flaxtl.nets.network import Network
from flaxtl.nets.normalising import in_network
from flaxtl.pipeline import Pipeline, compiled, spread
from flaxtl.places import expanded
from flaxtl.predictions import Predictions, by_example, mean_by_example
from flaxtl.setting_values import require_count
from flaxtl.shares import Prior, log_ratio, shares_of

if TYPE_CHECKING:
    from flax import nnx

    from flaxtl.modules import LinenModel, NnxModel

CHECKPOINT = "checkpoint"
BATCH = 64


@dataclasses.dataclass(frozen=True)
class Model:
    """A network with its parameters and its card.

    Attributes:
        network: how to compute.
        variables: {'params': …} and other collections such as 'batch_stats'.
        card: what goes in and comes out.
        files: further files that travel with the model, such as a tokenizer: name → path.
        notes: what was done to the parameters on the way here, one sentence each.
    """

    network: Network
    variables: dict[str, Any]
    card: Card
    files: dict[str, Path] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # What the network's own module computes is what the card says.
        object.__setattr__(self, "network", in_network(self.network, self.card.head.normalise)[0])

    @property
    def pipeline(self) -> Pipeline:
        """What is compiled for this model."""
        return Pipeline.of(self.network, self.card, self.files)

    @property
    def params(self) -> dict[str, Any]:
        """The parameters."""
        return self.variables[paths.PARAMS]

    @property
    def head_pattern(self) -> str:
        """The pattern that matches the head's leaves."""
        return f"{paths.PARAMS}:{self.card.head.path}/**"

    def sample(self, batch: int = 1) -> Any:
        """Returns the shape of a batch as it enters the network."""
        pre = self.pipeline.preprocess
        rows = jax.tree.map(lambda form: jax.ShapeDtypeStruct((batch, *form.shape), form.dtype), pre.row)
        return jax.eval_shape(pre.device, rows)

    def with_variables(self, variables: dict[str, Any], *notes: str) -> Model:
        """Returns the model with other variables."""
        return dataclasses.replace(self, variables=variables, notes=(*self.notes, *notes))

    def with_temperature_in_head(self) -> Model:
        """Returns a model of the same predictions whose dense head is divided by the temperature, which becomes 1."""
        temperature = self.card.head.temperature
        if temperature == 1.0:
            return self
        path = self.card.head.path
        head = jax.tree.map(
            lambda a: np.asarray(a) / np.asarray(temperature, a.dtype), paths.subtree(self.params, path)
        )
        variables = {**self.variables, paths.PARAMS: surgery.graft(self.params, path, head)}
        card = self.card.with_head(temperature=1.0, conformal=self.card.head.conformal)
        return dataclasses.replace(self, variables=variables, card=card)

    def with_prior(self, prior: Prior) -> Model:
        """Returns the model with probabilities for other class shares than those that it was trained for.

        Args:
            prior: the shares to expect: "equal", or a number for each class by name.

        Raises:
            ConfigError: no classes, shares that are none, a model whose card does not say for which shares it was
                trained, or a head without a bias.

        Example:
            >>> from flaxtl.convert import load
            >>> model = load('flaxtl:characters').with_head(['a', 'b'])
            >>> model = dataclasses.replace(model, card=model.card.with_head(class_shares=(0.9, 0.1)))
            >>> model.with_prior('equal').card.head.class_shares
            (0.5, 0.5)
        """
        head = self.card.head
        if head.task != "classification" or not head.class_shares:
            raise ConfigError(
                "The model does not say for which class shares its probabilities hold, so `prior` cannot change them. "
                "Fine-tune it, for one class an example."
            )
        wanted, leaves = shares_of(prior, head.labels), paths.subtree(self.params, head.path)
        if "bias" not in leaves:
            raise ConfigError(f"The head {head.path!r} has no bias, by which `prior` changes its answers.")
        bias = np.asarray(leaves["bias"])
        shifted = bias + (head.temperature * log_ratio(wanted, head.class_shares)).astype(bias.dtype)
        params = surgery.graft(self.params, head.path, {**leaves, "bias": shifted})
        return dataclasses.replace(
            self,
            variables={**self.variables, paths.PARAMS: params},
            card=self.card.with_head(class_shares=wanted),
        )

    def with_head(
        self, labels: Sequence[str], *, task: Task = "classification", init: str = "zeros", seed: int = 0
    ) -> Model:
        """Returns the model with a new, re-initialised output layer; every other leaf stays as it is.

        Args:
            labels: the new class names, in the order of the outputs.
            task: what the outputs mean.
            init: "zeros" or the name of another initialiser (see `surgery.initialiser`).
            seed: for initialisers that draw.

        Raises:
            ConfigError: there are no labels, one occurs twice, or the initialiser is unknown.
        """
        if isinstance(labels, (str, bytes)) or not isinstance(labels, Sequence):
            raise ConfigError(f"The labels are {shown(labels)}; expected a list of class names.")
        odd = [name for name in labels if not isinstance(name, str)]
        if odd:
            raise ConfigError(f"The label {shown(odd[0])} is no text; expected class names.")
        twice = sorted(name for name, count in collections.Counter(labels).items() if count > 1)
        if not labels or twice:
            found = f"{listed(twice)} more than once" if twice else "none"
            raise ConfigError(f"A head needs a name of its own for each output; found {found}.")
        network = self.network
        path = self.card.head.path
        params = self.params
        headless = path not in params and not any(leaf.path.startswith(f"{path}/") for leaf, _ in paths.leaves(params))
        if headless or jax.tree.leaves(paths.subtree(params, path))[0].shape[-1] != len(labels):
            network = network.with_outputs(len(labels))
        like = network.abstract(self.sample())[paths.PARAMS]
        head = paths.subtree(like, path)
        fresh = {**params, path: head} if headless else surgery.graft(params, path, head)
        params = surgery.reinit(fresh, f"{path}/**", init, seed=seed, like=like)
        card = self.card.with_head(
            labels=tuple(labels),
            task=task,
            temperature=1.0,
            normalise="none",
            rows="probabilities",
            class_shares=(),
        )
        return dataclasses.replace(
            self,
            network=network,
            variables={**self.variables, paths.PARAMS: params},
            card=card,
            notes=(*self.notes, f"head {path!r} re-initialised with {init} for {len(labels)} outputs"),
        )

    def outputs(self, data: Any, *, stop: int | None = None, batch_size: int = BATCH) -> tuple[np.ndarray, np.ndarray]:
        """Runs the network over data, row by row.

        Args:
            data: a Source, paths, arrays, or an `Entry`, whose rows enter at the segment that it says.
            stop: one past the last segment to run; None for logits.
            batch_size: rows at a time.

        Returns:
            (float [rows, …], int32 [rows] the example that each row belongs to).
        """
        found = list(self.stream(self.entry(data), stop=stop, batch_size=batch_size))
        values = np.concatenate([part for part, _ in found])
        numbers = np.concatenate([index for _, index in found])
        order = np.argsort(numbers, kind="stable")  # texts come by length
        return values[order], numbers[order]

    def stream(self, entry: Entry, *, stop: int | None, batch_size: int) -> Iterator[tuple[Any, np.ndarray]]:
        """Yields what leaves segment `stop` - 1, batch by batch: (array or arrays by name [rows, …], int32 [rows]).

        Args:
            entry: the examples and the segment that they enter.
            stop: one past the last segment to run; None for logits.
            batch_size: rows at a time.
        """
        rows = stream_rows(len(entry), batch_size)
        loader = Loader(entry.source, entry.preprocess, rows, train=False)
        run = compiled(self.pipeline, entry.start, stop)
        variables, place = spread(self.variables)
        for batch in loader.iterate():
            real = batch["weight"] > 0
            values = run(variables, place(batch["inputs"]))
            yield jax.tree.map(lambda a, real=real: np.asarray(a)[real], values), batch["example_index"][real]

    def entry(self, data: Any) -> Entry:
        """Returns data as examples that enter a segment: the first, unless they are such an `Entry` already."""
        return data if isinstance(data, Entry) else Entry(self.source(data), self.pipeline.preprocess)

    def source(self, data: Any) -> Source:
        """Returns data as a Source of the card's modality.

        Raises:
            CardError: the data is of another modality.
            DataError: it is empty or cannot be understood.
        """
        spec = self.card.input
        shape = spec.shape if isinstance(spec, Array) else ()
        source = as_source(data, spec.modality, columns=self.card.columns, shape=shape)
        self.card.require_modality(source.modality)
        if len(source) == 0:
            raise DataError("The data holds no examples.")
        return source

    def features(self, data: Any, *, batch_size: int = BATCH) -> np.ndarray:
        """Returns what the backbone hands the head, float [examples, features]; rows of one example averaged."""
        values, index = self.outputs(data, stop=self.network.border, batch_size=batch_size)
        return mean_by_example(values, index)

    def logits(self, data: Any, *, batch_size: int = BATCH) -> np.ndarray:
        """Returns logits, float [examples, outputs], before the card's temperature.

        The rows of one example (windows of a clip) are averaged as the card's head says: as probabilities or, where the
        head was solved on them, as features.
        """
        if self.card.head.rows == "features" and self.card.input.modality == "audio":  # all else has one row
            values = self._head_outputs(self.features(data, batch_size=batch_size), batch_size)
            index = np.arange(len(values))
        else:
            values, index = self.outputs(data, batch_size=batch_size)
        if not np.isfinite(values).all():
            raise TrainingError(
                "The network's outputs are not finite numbers: its parameters hold NaN or infinity "
                f"({listed(non_finite(self.variables), 8) or 'or overflow on this input'}). Use an earlier checkpoint."
            )
        return self.by_example(values, index)

    def by_example(self, values: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Returns the logits of examples from those of their rows, as `logits` does.

        The rows of a classified example, such as the windows of a long clip, count as the mean of their probabilities
        (whose logarithm is returned), those of several labels likewise, those of a regression as their mean. A head
        with `card.head.rows == "features"` takes the mean of the rows' features instead, before it is applied.

        Args:
            values: logits, float [rows, outputs].
            index: int [rows], the example of each row.
        """
        return by_example(values, index, self.card.head.task)

    def _head_outputs(self, features: np.ndarray, batch_size: int) -> np.ndarray:
        """Returns what the head says of features, float [examples, outputs], so many at a time."""
        rows, run = stream_rows(len(features), batch_size), compiled(self.pipeline, self.network.border, None)
        variables, place = spread(self.variables)
        parts = [features[i : i + rows] for i in range(0, len(features), rows)]
        padded = [np.pad(part, ((0, rows - len(part)), (0, 0))) for part in parts]
        said = [np.asarray(run(variables, place(whole)))[: len(part)] for whole, part in zip(padded, parts)]
        return np.concatenate(said)

    def predict(self, data: Any, *, batch_size: int = BATCH) -> Predictions:
        """Returns class names and calibrated probabilities.

        Args:
            data: a path, a list of paths, arrays, or a Source. A model of pictures takes one picture too, as an array
                [height, width(, channels)], of Pillow or as a file's bytes; one of sound a clip [samples]; for one of
                texts a string is a text, and a `pathlib.Path` a file.
            batch_size: rows at a time.

        Returns:
            Predictions in the order of the data: `found[0]`, `found.top(3)`, `found.to_pandas()`.

        Raises:
            CardError: the data is of another modality.
            DataError: it is empty or cannot be understood.
        """
        source = self.source(data)
        logits = self.logits(source, batch_size=batch_size) / self.card.head.temperature
        return Predictions.of(source.keys, logits, self.card.head, details=source.details)

    def preprocess(self, data: Any) -> tuple[Any, np.ndarray]:
        """Returns data as the rows that enter `as_linen` and `as_nnx`: the host's part of the preprocessing.

        Pictures are decoded, resized and cropped (uint8 [rows, height, width, channels]); texts are tokenised, and
        sounds resampled and cut into windows (arrays by name); numbers are as they are.

        Args:
            data: as `predict` takes it; all of its rows are held in memory.

        Returns:
            (array or arrays by name [rows, …], int32 [rows] the example that each row belongs to).
        """
        return rows_of(self.pipeline.preprocess, self.source(data))

    def as_linen(self, *, temperature: bool = False) -> tuple[LinenModel, dict[str, Any]]:
        """Returns the whole model as a Linen module and its variables, for use outside flaxtl.

        `module.apply(variables, rows)` gives the logits of rows as `preprocess` returns them, the same as `logits`
        gives: preprocessing on the device, network and the head's feature normalisation are inside. An example of
        several rows is put together from them by `by_example`. Training: see `LinenModel`; the trained variables come
        back by `with_variables`.

        Args:
            temperature: whether logits are divided by the card's temperature, so that their softmax is `predict`'s.

        Example:
            >>> from flaxtl.convert import load
            >>> model = load('flaxtl:characters').with_head(['a', 'b'])
            >>> module, variables = model.as_linen()
            >>> rows, _ = model.preprocess(np.zeros((3, 32, 32), np.uint8))
            >>> module.apply(variables, rows).shape
            (3, 2)
        """
        from flaxtl.modules import LinenModel

        return LinenModel(self.pipeline, self.card.head.temperature if temperature else 1.0), self.variables

    def as_nnx(self, *, temperature: bool = False, rngs: nnx.Rngs | None = None) -> NnxModel:
        """Returns the whole model as an NNX module that holds its state, for use outside flaxtl; see `as_linen`.

        Args:
            temperature: whether logits are divided by the card's temperature, so that their softmax is `predict`'s.
            rngs: random streams for dropout; needed to train a network that has any.

        Example:
            >>> from flaxtl.convert import load
            >>> model = load('flaxtl:characters').with_head(['a', 'b'])
            >>> rows, _ = model.preprocess(np.zeros((3, 32, 32), np.uint8))
            >>> model.as_nnx()(rows).shape
            (3, 2)
        """
        from flaxtl.modules import NnxModel

        factor = self.card.head.temperature if temperature else 1.0
        return NnxModel(self.pipeline, self.variables, factor, rngs)

    def save(self, directory: str | Path, *, overwrite: bool = False) -> Path:
        """Writes the model as a directory: card.json, the Orbax checkpoint, and its files.

        Any Orbax program reads the parameters in its folder checkpoint/state. The directory is written beside its place
        and renamed, so that an interrupted save leaves what was there.

        Args:
            directory: the model's place.
            overwrite: whether an earlier one may be replaced.

        Returns:
            The directory.

        Raises:
            CheckpointError: parameters that are not finite, a place that is taken, or a full disk.
        """
        bad = non_finite(self.variables)
        if bad:
            raise CheckpointError(
                f"The parameters hold NaN or infinity in {listed(bad, 8)}; such a model is not saved."
            )
        with checkpoint.new_directory(expanded(directory), overwrite=overwrite) as folder:
            checkpoint.save(folder / CHECKPOINT, self.variables)
            self.card.write(folder)
            for name, file in self.files.items():
                (folder / name).write_bytes(Path(file).read_bytes())
        return Path(directory)

    @classmethod
    def load(cls, directory: str | Path, *, network: Network | None = None) -> Model:
        """Reads a model directory; every leaf is verified against its checksum.

        Args:
            directory: where `save` wrote it.
            network: the network, if it is a user's own; flaxtl builds those of its families from the card.

        Raises:
            CheckpointError: missing, damaged, or not fitting the network.
            CardError: the card cannot be read.
        """
        folder = expanded(directory)
        if not folder.is_dir():
            found = f"{folder} is a file." if folder.exists() else f"There is no model at {folder}."
            raise CheckpointError(
                f"{found} Expected a directory that flaxtl saved, with card.json and checkpoint/, a file of published "
                "weights, or hf:owner/name."
            )
        card = Card.read(folder)
        network = network or _network_of(card, folder)
        model = cls(network, {}, card)
        plan = checkpoint.plan(folder / CHECKPOINT, like=network.abstract(model.sample()))
        variables, report = checkpoint.restore(plan)
        bad = non_finite(variables)
        if bad:
            raise CheckpointError(f"{folder} holds NaN or infinity in {listed(bad, 8)}. Use an earlier checkpoint.")
        known = {CHECKPOINT, "card.json"}
        files = {f.name: f for f in sorted(folder.iterdir()) if f.is_file() and f.name not in known}
        return cls(network, variables, card, files, (str(report),))


def stream_rows(examples: int, batch_size: int = BATCH) -> int:
    """Returns how many rows of so many examples are run at a time: a power of two, so that few shapes are compiled.

    Example:
        >>> stream_rows(5), stream_rows(1000)
        (8, 64)
    """
    require_count(batch_size=batch_size)
    return min(int(batch_size), 1 << (examples - 1).bit_length())


def _network_of(card: Card, folder: Path) -> Network:
    from flaxtl import nets

    if card.network.family == "custom":
        raise CheckpointError(
            f"{folder} was saved from a module of the user's own, which its card cannot rebuild. "
            "Give it: Model.load(path, network=LinenModule(YourModule(…), head='…'))."
        )
    return nets.build(card.network, len(card.labels))


def non_finite(tree: Any) -> list[str]:
    """Returns the names of the leaves that hold NaN or infinity.

    Example:
        >>> non_finite({'a': np.array([1.0]), 'b': np.array([np.nan])})
        ['params:b']
    """
    return [
        leaf.name
        for leaf, value in paths.leaves(tree)
        # jnp's issubdtype, unlike NumPy's, knows bfloat16 and the 8-bit floats.
        if jnp.issubdtype(value.dtype, jnp.inexact) and not np.isfinite(np.asarray(value)).all()
    ]
