"""The settings of every command: one dataclass each, for Python, the command line and YAML alike.

Nothing here imports JAX, so that ``flaxtl --help`` answers at once.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro
import yaml
from tyro.conf import Positional, UseAppendAction, arg

from flaxtl import yaml_files
from flaxtl.data_settings import BadFile, Data, DataConfig
from flaxtl.errors import ConfigError, listed, shown
from flaxtl.probe_settings import ProbeConfig, RankConfig
from flaxtl.run_settings import Run
from flaxtl.setting_names import instead_of
from flaxtl.setting_values import checked
from flaxtl.training_settings import Augmentation, Contrast, Lora, Optimizer, SoundAugmentation, Training

C = TypeVar("C")
Form = Callable[[str], str]
StrategyName = Literal["auto", "head", "cut", "lpft", "gradual", "lora", "contrastive", "full", "scratch"]


@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
    """Train a published network on your data: a new head, or everything."""

    data: Positional[str] = ""
    """A folder of class folders, a .csv, .jsonl or .parquet table, tfds:name, hf:owner/name, or "digits"."""
    pretrained: Annotated[str, arg(name="from")] = "flaxtl:characters"
    """The model to start from: a directory that flaxtl saved, or flaxtl:characters, the embedded one."""
    strategy: StrategyName = "head"
    """head fits a new output layer on frozen features (option 1). full fine-tunes all layers (option 2). lpft fits
    the head, then fine-tunes all layers. cut fits the head, then fine-tunes the layers above --cut; lower activations
    are cached. gradual fits the head, then unfreezes the layers from the top down. lora fits the head, then trains
    low-rank adapters. contrastive tunes the features by supervised contrast, then fits a linear head. scratch trains
    without pretrained weights, as a control. auto selects among head, cut (for pictures also a deeper one, for text
    contrastive) and lpft by cross-validation."""
    out: str | None = "runs/finetune"
    """The run directory; the model is left in its "model" folder."""
    test: str | None = None
    """Data to evaluate the finished model on; never used to choose anything."""
    examples_per_class: int | None = None
    """Draw this many training examples of each class, by the seed."""
    size: int | None = None
    """Another picture size than the pretrained network's, in pixels a side."""
    trainable: tuple[str, ...] = ("**",)
    """Patterns of the parameters that full, lpft, cut, gradual and contrastive train."""
    cut: str = "0.5"
    """Where the strategy cut begins to train: the name of a block (flaxtl inspect shows them, flaxtl probe proposes
    one), or a fraction of the depth. Lower activations are computed once for each example and cached."""
    cut_head: Literal["solved", "new"] = "solved"
    """What cut starts from: solved, a head fitted on frozen features; or new, a new random head and larger learning
    rates, for data unlike the pretraining data."""
    views: int = 0
    """Number of augmented copies of each picture whose activations are cached: by default none for head, and 4 for cut
    and gradual if an augmentation is set."""
    budget: str | None = "10m"
    """Time limit of auto, such as 90s, 10m or 1.5h, the final training included; None for no limit."""
    stages: int = 4
    """Number of unfreezing stages of gradual."""
    schedule_rule: Literal["none", "bit"] = "none"
    """bit takes the number of steps and mixup from the number of examples (BiT-HyperRule; Kolesnikov et al. 2020),
    where --epochs and --mixup do not say otherwise."""
    lora: Lora = Lora()
    contrast: Contrast = Contrast()
    data_options: Data = Data()
    training: Training = Training()
    optimizer: Optimizer = Optimizer()
    augment: Augmentation = Augmentation()
    sound: SoundAugmentation = SoundAugmentation()
    run: Run = Run()


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """The network to train from scratch, and the input that it will expect."""

    family: str = "resnet"
    """A family of flaxtl's networks."""
    variant: str | None = None
    """A named member of it, such as resnet18 or resnet20_cifar; or the settings below."""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The family's own settings, from a configuration file."""
    size: int = 32
    """Picture side in pixels."""
    channels: int = 3
    """1 for grey, 3 for colour."""
    polarity: Literal["as_is", "bright_on_dark"] = "as_is"
    """bright_on_dark inverts pictures with a bright border."""
    fit: Literal["crop", "squash", "pad"] = "crop"
    """How a picture that is not square becomes so."""


@dataclasses.dataclass(frozen=True)
class PretrainConfig:
    """Train a network from scratch on a large data set."""

    data: Positional[str] = ""
    """A folder of class folders (zip archives in it are read as if unpacked), a .csv, .jsonl or .parquet table,
    tfds:name, or hf:owner/name."""
    out: str | None = "runs/pretrain"
    """The run directory; the model is left in its "model" folder."""
    test: str | None = None
    """Data to evaluate the finished model on."""
    licence: str = ""
    """The data's licence, for the card."""
    turned_classes: bool = False
    """Count each class turned by 90, 180 and 270 degrees as a class of its own."""
    network: NetworkConfig = NetworkConfig()
    data_options: Data = Data()
    training: Training = Training(epochs=30, batch_size=64, statistics="batch", validation=0.1)
    optimizer: Optimizer = Optimizer()
    augment: Augmentation = Augmentation()
    run: Run = Run()


@dataclasses.dataclass(frozen=True)
class EstimateConfig:
    """Estimate memory and step time of a fine-tuning for a target device."""

    config: Positional[str] = ""
    """A YAML file of finetune's settings, such as the config.yaml of a run; without it the defaults."""
    topology: str = "cpu:1"
    """cpu:N, gpu:N (or a100:N, h100:N, h200:N), or a TPU slice such as v5e:4x4, for which libtpu must be installed."""
    classes: int = 10
    """How many classes the new head will have."""
    examples: int = 1000
    """How many training examples there will be."""
    json: bool = False
    """Print as JSON."""


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """Measure a model on labelled data, with intervals."""

    model: Positional[str] = ""
    """A directory that flaxtl saved."""
    data: Positional[str] = ""
    """A folder of class folders, a .csv, .jsonl or .parquet table, tfds:name, hf:owner/name, or "digits"."""
    data_options: Data = Data()
    prior: Literal["equal"] | dict[str, float] | None = None
    """The class shares to expect, for which probabilities are to hold: equal, or a share for each class by name; by
    default those that the model was trained for."""
    batch_size: int = 64
    """Examples at a time."""
    json: bool = False
    """Print the figures as JSON."""


@dataclasses.dataclass(frozen=True)
class PredictConfig:
    """Predict labels and probabilities, or numbers, of files, tables and texts."""

    model: Positional[str] = ""
    """A directory that flaxtl saved."""
    paths: Positional[tuple[str, ...]] = ()
    """Files, folders, and .csv, .tsv, .jsonl or .parquet tables; - reads texts from standard input, one a line."""
    text: UseAppendAction[tuple[str, ...]] = ()
    """A text itself, for a model of texts; several with --text before each. Of a pair both, with a tab between."""
    input_column: Annotated[str | None, arg(aliases=("--text-column",))] = None
    """The tables' column of paths or contents; by default the one that the model was trained on."""
    format: Literal["text", "csv", "json"] = "text"
    """csv has the columns path, prediction, probability and one a class (of numbers path and one an output), then the
    line or row, id and text of a table's rows."""
    prior: Literal["equal"] | dict[str, float] | None = None
    """The class shares to expect, as for evaluate."""
    batch_size: int = 64
    """Examples at a time."""
    on_bad_file: BadFile = "error"
    """What to do with an unreadable file."""


@dataclasses.dataclass(frozen=True)
class ConvertConfig:
    """Turn published weights into a model, or a converted model back into safetensors."""

    source: Positional[str] = ""
    """A file or folder of published weights, hf:owner/name@revision, or a URL; for the way back, a model directory."""
    out: Positional[str] = ""
    """The model directory to write; for the way back, a file that ends in .safetensors."""
    explain: bool = False
    """Print which tensor becomes which leaf, and how; without OUT nothing is written."""
    ignore_settings: tuple[str, ...] = ()
    """Settings of the source that are left out: the way past a refusal of one that flaxtl does not honour."""
    overwrite: bool = False
    """Replace what is at OUT."""
    json: bool = False
    """Print the result as JSON."""


@dataclasses.dataclass(frozen=True)
class InspectConfig:
    """Show what a checkpoint holds, without reading its arrays."""

    path: Positional[str] = ""
    """A model directory, a run directory, or any Orbax checkpoint."""
    pattern: str = "**"
    """Show only the leaves that match."""
    json: bool = False
    """Print as JSON."""


@dataclasses.dataclass(frozen=True)
class LrFindConfig:
    """Find a learning rate: train while it rises, and see where the loss falls fastest."""

    data: Positional[str] = ""
    """A folder of class folders, a .csv, .jsonl or .parquet table, tfds:name, hf:owner/name, or "digits"."""
    pretrained: Annotated[str, arg(name="from")] = "flaxtl:characters"
    """The model to start from."""
    strategy: Literal["full", "lpft"] = "full"
    """What the rate is for: everything trained with a new head, or with a head that was solved first."""
    steps: int = 100
    """How many; batches repeat where there are fewer."""
    lowest: float = 1e-7
    """The first step's learning rate."""
    highest: float = 1.0
    """The last step's, if the loss has not grown beyond all bounds before."""
    batch_size: int = 32
    """Examples a step."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """As for finetune."""
    weight_decay: float = 1e-4
    """As for finetune."""
    head_rate: float | None = None
    """As for finetune."""
    layer_decay: float = 1.0
    """As for finetune."""
    out: str | None = None
    """A PNG file for the plot, which needs matplotlib."""
    seed: int = 0
    """Random seed of order and augmentation."""
    json: bool = False
    """Print the result as JSON."""
    data_options: Data = Data()
    augment: Augmentation = Augmentation()
    sound: SoundAugmentation = SoundAugmentation()


@dataclasses.dataclass(frozen=True)
class CompareConfig:
    """Compare runs, with the significance of their differences."""

    runs: Positional[tuple[str, ...]] = ()
    """Run directories."""
    json: bool = False
    """Print as JSON."""


@dataclasses.dataclass(frozen=True)
class DemoConfig:
    """Fifty labelled digits, four ways: both options, the same network from scratch, raw pixels."""

    draws: int = 5
    """Random draws of the labelled pictures."""
    examples_per_class: int = 5
    """Labelled pictures of each digit."""
    out: str = "runs/demo"
    """Where the best model is saved."""
    seed: int = 0
    """Random seed of the first draw."""
    json: bool = False
    """Print the result as JSON."""


COMMANDS: dict[str, type] = {
    "finetune": FinetuneConfig,
    "pretrain": PretrainConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "convert": ConvertConfig,
    "inspect": InspectConfig,
    "compare": CompareConfig,
    "data": DataConfig,
    "probe": ProbeConfig,
    "rank": RankConfig,
    "lr-find": LrFindConfig,
    "estimate": EstimateConfig,
    "demo": DemoConfig,
}


def to_dict(config: Any) -> dict[str, Any]:
    """Returns a config as plain data for YAML, tuples as lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value

    return plain(dataclasses.asdict(config))


def from_dict(kind: type[C], data: Mapping[str, Any], where: str = "", form: Form | None = None) -> C:
    """Builds a config from plain data, with defaults for what is absent.

    Args:
        kind: the config's dataclass.
        data: values by name; those of a section are a mapping of their own.
        where: the section that it is, with a dot after it.
        form: how a message writes the name of a setting; by default with its section, in quotes, as a file has it.

    Raises:
        ConfigError: an unknown key (the nearest known ones are named) or a value of the wrong type.

    Example:
        >>> from_dict(FinetuneConfig, {'strategy': 'full', 'run': {'seed': 3}}).run.seed
        3
    """
    form = repr if form is None else form
    hints = typing.get_type_hints(kind)
    known = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values = {}
    for key, value in data.items():
        if key not in known:
            raise ConfigError(f"There is no setting {form(where + key)}.{_instead_of(kind, key, where)}")
        if dataclasses.is_dataclass(hints[key]):
            default: Any = known[key].default
            merged = {**to_dict(default), **_mapping(value, form(where + key))}
            values[key] = from_dict(hints[key], merged, f"{where}{key}.", form)
        else:
            values[key] = checked(value, hints[key], form(where + key))
    return kind(**values)


def _instead_of(kind: type, key: str, where: str) -> str:
    """Returns what to write in a file in place of a key that does not exist, with the section that it belongs to."""
    sections = {} if where else _sections(kind)
    homes = {f.name: f.name for f in dataclasses.fields(kind)}
    homes |= {name: f"{section}.{name}" for section, names in sections.items() for name in names if name not in homes}
    if key in homes:
        return f" It belongs to a section: '{homes[key].partition('.')[0]}:'."
    return instead_of(key, homes, lambda name: repr(where + homes[name]))


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise ConfigError(f"{name} is {shown(value)}; expected settings of its own, one a line.")
    return value or {}


def _sections(kind: type) -> dict[str, list[str]]:
    """Returns the names of the settings of each section of a config."""
    hints = typing.get_type_hints(kind)
    return {
        field.name: [f.name for f in dataclasses.fields(hints[field.name])]
        for field in dataclasses.fields(kind)
        if dataclasses.is_dataclass(hints[field.name])
    }


def replace(config: C, **settings: Any) -> C:
    """Returns a config with settings replaced, each by its own name wherever it is nested, or a whole section by its.

    Args:
        config: stays as it is.
        **settings: single values, or sections: `optimizer=Optimizer(learning_rate=1e-4)` replaces all settings of the
            optimizer, `optimizer={'learning_rate': 1e-4}` the named ones, as does `learning_rate=1e-4` alone.

    Raises:
        ConfigError: there is no such setting (the nearest names are given), or it has another type.

    Example:
        >>> replace(FinetuneConfig(), strategy='full', seed=3).run.seed
        3
    """
    values = to_dict(config)
    sections, hints = _sections(type(config)), typing.get_type_hints(type(config))
    homes = dict.fromkeys((name for name in values if name not in sections), "")
    homes |= {name: section for section, names in sections.items() for name in names}
    for key, value in settings.items():
        if key in sections and (isinstance(value, Mapping) or type(value) is hints[key]):
            given = value if isinstance(value, Mapping) else to_dict(value)
            unknown = [name for name in given if name not in sections[key]]
            if unknown:
                raise ConfigError(f"{key!r} has no setting {unknown[0]!r}.{instead_of(unknown[0], sections[key])}")
            values[key] |= given
        elif key in homes:
            (values[homes[key]] if homes[key] else values)[key] = value
        elif key in sections:
            name = hints[key].__name__
            raise ConfigError(
                f"`{key}` is {shown(value)}; expected flaxtl.config.{name}(…), or its settings one by one: "
                f"{listed(f'`{n}`' for n in sections[key])}."
            )
        else:
            raise ConfigError(f"There is no setting {key!r}.{instead_of(key, homes)}")
    return from_dict(type(config), values, form=lambda name: f"`{name.rpartition('.')[2]}`")


def load(kind: type[C], file: str | Path) -> C:
    """Reads a config from a YAML file.

    Raises:
        ConfigError: the file is missing, is not YAML, or holds unknown settings; the message names it.
    """
    path = Path(file)
    data = yaml_files.read(path)
    try:
        return from_dict(kind, data)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}{_of_another_command(kind, data)}") from error


def _of_another_command(kind: type, data: Mapping[str, Any]) -> str:
    """Says which commands have all the settings of a file, where the one that was asked for has not."""
    keys = {name: {f.name for f in dataclasses.fields(other)} for name, other in COMMANDS.items() if other is not kind}
    mine = {f.name for f in dataclasses.fields(kind)}
    others = [name for name, known in keys.items() if known.issuperset(data)]
    return f" The file's settings are those of flaxtl {' or '.join(others)}." if others and data.keys() - mine else ""


def save(config: Any, file: Path) -> None:
    """Writes a config as YAML, every setting included, so that the file reproduces the run."""
    text = yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)
    file.write_text(text, encoding="utf-8", errors="backslashreplace")


def parse(kind: type[C], arguments: list[str], *, program: str, default: C | None = None) -> C:
    """Reads a config from command-line arguments.

    Args:
        kind: the config's dataclass.
        arguments: without the program's name.
        program: what the help calls it.
        default: settings from a file, which the arguments override.
    """
    start = default if default is not None else kind()
    return tyro.cli(kind, args=arguments, prog=program, default=start, config=(tyro.conf.OmitArgPrefixes,))
