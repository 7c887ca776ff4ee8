"""What each command does, given its settings; returns the exit code."""

from __future__ import annotations

import json
import sys
from typing import Any

from flaxtl.config import (
    ConvertConfig,
    DemoConfig,
    EvaluateConfig,
    FinetuneConfig,
    InspectConfig,
    PredictConfig,
    PretrainConfig,
)
from flaxtl.errors import ConfigError


def _need(value: Any, what: str, example: str) -> None:
    if not value:
        raise ConfigError(f"{what} is missing. For example: {example}")


def _print(result: Any, as_json: bool) -> int:
    print(json.dumps(result.to_dict(), indent=2, ensure_ascii=False) if as_json else result.summary())
    return 0


def finetune(config: FinetuneConfig) -> int:
    """Runs `flaxtl finetune`."""
    from flaxtl.strategies.jobs import run_finetune

    _need(config.data, "The training data", "flaxtl finetune photos/ --strategy head --out runs/photos")
    _need(config.pretrained, "The model", "flaxtl finetune photos/ --from flaxtl:characters")
    result = run_finetune(config, config.pretrained, config.data, config.test, shown=not config.run.json)
    return _print(result, config.run.json)


def pretrain(config: PretrainConfig) -> int:
    """Runs `flaxtl pretrain`."""
    from flaxtl.strategies.jobs import run_pretrain

    _need(config.data, "The training data", "flaxtl pretrain pictures/ --variant resnet18 --out runs/pretrain")
    return _print(run_pretrain(config, config.data, config.test, shown=not config.run.json), config.run.json)


def evaluate(config: EvaluateConfig) -> int:
    """Runs `flaxtl evaluate`."""
    from flaxtl.strategies.jobs import run_evaluate

    _need(
        config.model and config.data,
        "The model or the data",
        "flaxtl evaluate runs/photos/model photos-test/",
    )
    return _print(run_evaluate(config), config.json)


def predict(config: PredictConfig) -> int:
    """Runs `flaxtl predict`."""
    from flaxtl.convert import load
    from flaxtl.data import from_files
    from flaxtl.errors import listed
    from flaxtl.strategies.checks import require_positive

    require_positive(batch_size=config.batch_size)
    _need(config.model and config.paths, "The model or the files", "flaxtl predict runs/photos/model new.jpg")
    model = load(config.model)
    source = from_files(config.paths, modality=model.card.input.modality, on_bad_file=config.on_bad_file)
    predictions = model.predict(source, batch_size=config.batch_size)
    if source.skipped:
        skipped = listed(path for path, _ in source.skipped)
        print(f"{len(source.skipped)} unreadable files were skipped: {skipped}", file=sys.stderr)
    form = {"text": predictions.to_text, "csv": predictions.to_csv, "json": predictions.to_json}
    print(form[config.format](), end="")
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


def demo(config: DemoConfig) -> int:
    """Runs `flaxtl demo`."""
    from flaxtl.demo.digits import run_demo

    return _print(run_demo(config), config.json)
