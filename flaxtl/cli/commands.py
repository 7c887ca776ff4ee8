"""What each command does, given its settings; returns the exit code."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from flaxtl.cli.printing import print_json, print_json_text
from flaxtl.cli.wording import as_options
from flaxtl.config import (
    CompareConfig,
    ConvertConfig,
    DataConfig,
    DemoConfig,
    EstimateConfig,
    EvaluateConfig,
    FinetuneConfig,
    InspectConfig,
    LrFindConfig,
    PredictConfig,
    PretrainConfig,
    ProbeConfig,
    RankConfig,
    Run,
)
from flaxtl.errors import ConfigError


def _need(value: Any, what: str, example: str) -> None:
    if not value:
        raise ConfigError(f"{what} is missing. For example: {example}")


@contextlib.contextmanager
def _training(run: Run, *, kept: bool) -> Iterator[None]:
    """Meets the other processes of a run, if there are any, and lets SIGTERM ask for the state to be kept."""
    from flaxtl import processes
    from flaxtl.train import preemption

    with (
        processes.connected(run.coordinator, run.processes, run.process_id, run.peer_timeout, as_options),
        preemption.noticed() if kept else contextlib.nullcontext(),
    ):
        yield


def _print(result: Any, as_json: bool) -> int:
    from flaxtl import processes

    if not processes.first():
        return 0
    if as_json:
        print_json(result.to_dict())
    else:
        print(as_options(result.summary()))
    return 0


def finetune(config: FinetuneConfig) -> int:
    """Runs `flaxtl finetune`."""
    from flaxtl.strategies.jobs import run_finetune

    _need(config.data, "The training data", "flaxtl finetune photos/ --strategy head --out runs/photos")
    _need(config.pretrained, "The model", "flaxtl finetune photos/ --from flaxtl:characters")
    with _training(config.run, kept=config.out is not None):
        result = run_finetune(config, config.pretrained, config.data, config.test, shown=not config.run.json)
        return _print(result, config.run.json)


def pretrain(config: PretrainConfig) -> int:
    """Runs `flaxtl pretrain`."""
    from flaxtl.strategies.jobs import run_pretrain

    _need(config.data, "The training data", "flaxtl pretrain pictures/ --variant resnet18 --out runs/pretrain")
    with _training(config.run, kept=config.out is not None):
        return _print(run_pretrain(config, config.data, config.test, shown=not config.run.json), config.run.json)


def evaluate(config: EvaluateConfig) -> int:
    """Runs `flaxtl evaluate`."""
    from flaxtl.strategies.jobs import run_evaluate

    _need(
        config.model and config.data,
        "The model or the data",
        "flaxtl evaluate runs/photos/model photos-test/",
    )
    found = run_evaluate(config, tell=lambda sentence: print(f"note: {as_options(sentence)}", file=sys.stderr))
    for note in found.notes() if config.json else ():  # the summary has them
        print(f"note: {as_options(note)}", file=sys.stderr)
    return _print(found, config.json)


def predict(config: PredictConfig) -> int:
    """Runs `flaxtl predict`."""
    from flaxtl.cli.asked import asked
    from flaxtl.convert import load
    from flaxtl.data.contents import skipped_notes
    from flaxtl.strategies.checks import require_positive

    require_positive(batch_size=config.batch_size)
    given = config.paths or config.text
    _need(config.model and given, "The model or the files", "flaxtl predict runs/photos/model new.jpg")
    model = load(config.model)
    model = model if config.prior is None else model.with_prior(config.prior)
    source = asked(config, model.card)
    predictions = model.predict(source, batch_size=config.batch_size)
    for sentence in (*skipped_notes(source.skipped), *source.notes):
        print(f"note: {sentence}", file=sys.stderr)
    if config.format == "json":
        print_json_text(predictions.to_json())
    else:
        print(predictions.to_csv() if config.format == "csv" else predictions.to_text(), end="")
    return 0


def convert(config: ConvertConfig) -> int:
    """Runs `flaxtl convert`."""
    from flaxtl.cli.convert import conversion

    _need(config.source, "The source", "flaxtl convert hf:timm/resnet18.a1_in1k models/resnet18")
    _need(config.out or config.explain, "The place to write to", "flaxtl convert weights.safetensors models/mine")
    return _print(conversion(config), config.json)


def inspect(config: InspectConfig) -> int:
    """Runs `flaxtl inspect`."""
    from flaxtl.cli.inspect import inspection

    _need(config.path, "The checkpoint", "flaxtl inspect runs/photos/model")
    found = inspection(config.path, config.pattern)
    return _print(found, config.json)


def data(config: DataConfig) -> int:
    """Runs `flaxtl data`."""
    from flaxtl.cli.data import inspected

    _need(config.word and config.data, "The word inspect or the data", "flaxtl data inspect photos/ --out sheet.png")
    return _print(inspected(config), config.json)


def probe(config: ProbeConfig) -> int:
    """Runs `flaxtl probe`."""
    from flaxtl.report import plots
    from flaxtl.strategies.surveys import probe as probed

    _need(config.data, "The data", "flaxtl probe photos/ --from models/resnet18 --out depth.png")
    if config.out and not plots.available():
        raise ConfigError("--out draws a plot, which needs matplotlib: pip install matplotlib. Or leave --out out.")
    found = probed(config.pretrained, config.data, config, shown=not config.json)
    if config.out:
        plots.save(plots.depths(found.to_dict()["depths"], found.proposed), config.out)
    return _print(found, config.json)


def rank(config: RankConfig) -> int:
    """Runs `flaxtl rank`."""
    from flaxtl.strategies.surveys import rank as ranked

    _need(config.data and config.models, "The data or the models", "flaxtl rank photos/ models/a models/b")
    return _print(ranked(config.models, config.data, config), config.json)


def lr_find(config: LrFindConfig) -> int:
    """Runs `flaxtl lr-find`."""
    from flaxtl.cli.rates import plotted
    from flaxtl.strategies.rate_finder import lr_find as find

    _need(config.data, "The training data", "flaxtl lr-find photos/ --from models/resnet18")
    found = find(config.pretrained, config.data, config)
    if config.out:
        plotted(found, config.out)
    return _print(found, config.json)


def compare(config: CompareConfig) -> int:
    """Runs `flaxtl compare`."""
    from flaxtl.report import compare as compared

    _need(len(config.runs) > 1, "A second run", "flaxtl compare runs/head runs/lpft")
    return _print(compared(config.runs), config.json)


def estimate(config: EstimateConfig) -> int:
    """Runs `flaxtl estimate`."""
    from flaxtl.strategies.checks import require_positive
    from flaxtl.train.hardware import Topology

    require_positive(classes=config.classes, examples=config.examples)
    topology = Topology.of(config.topology)
    import jax

    jax.config.update("jax_platforms", "cpu")
    if topology.platform != "tpu":
        jax.config.update("jax_num_cpu_devices", topology.count)
    from flaxtl.strategies.estimating import run_estimate

    return _print(run_estimate(config), config.json)


def demo(config: DemoConfig) -> int:
    """Runs `flaxtl demo`."""
    from flaxtl.demo.digits import run_demo

    return _print(run_demo(config), config.json)
