"""Settings: one dataclass for Python, the command line and YAML; every one of them is read somewhere."""

import ast
import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import flaxtl
from flaxtl import config as configs
from flaxtl.config import COMMANDS, FinetuneConfig, PretrainConfig
from flaxtl.errors import ConfigError

PACKAGE = Path(flaxtl.__file__).parent


@pytest.mark.parametrize("kind", COMMANDS.values(), ids=COMMANDS)
def test_a_config_survives_yaml(kind, tmp_path):
    configs.save(kind(), tmp_path / "config.yaml")
    assert configs.load(kind, tmp_path / "config.yaml") == kind()


def test_the_command_line_the_file_and_python_agree(tmp_path):
    words = (
        "photos --from base --strategy full --learning-rate 0.01 --seed 3 --examples-per-class 5 --json --zoom 0.5 2"
    )
    by_words = configs.parse(FinetuneConfig, words.split(), program="flaxtl finetune")
    by_name = configs.replace(
        FinetuneConfig(data="photos", pretrained="base"),
        strategy="full",
        learning_rate=0.01,
        seed=3,
        examples_per_class=5,
        json=True,
        zoom=(0.5, 2.0),
    )
    assert by_words == by_name
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"strategy": "full", "optimizer": {"learning_rate": "1e-2"}}))
    from_file = configs.load(FinetuneConfig, tmp_path / "c.yaml")
    assert (from_file.strategy, from_file.optimizer.learning_rate) == ("full", 0.01)
    on_top = configs.parse(FinetuneConfig, ["photos", "--strategy", "head"], program="x", default=from_file)
    assert (on_top.strategy, on_top.optimizer.learning_rate) == ("head", 0.01)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("stratgy: head", "no setting 'stratgy'.*Did you mean 'strategy'"),
        ("optimizer: {learning_rat: 1}", r"no setting 'optimizer\.learning_rat'.*'optimizer\.learning_rate'"),
        ("strategy: magic", "'magic'; expected one of"),
        ("examples_per_class: many", "a whole number"),
        ("run: 3", "expected settings of its own"),
        ("[1, 2]", "holds a list"),
        ("a: [", "not readable YAML"),
    ],
)
def test_a_wrong_file_is_refused_with_a_sentence(text, sentence, tmp_path):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        configs.load(FinetuneConfig, tmp_path / "c.yaml")


def test_an_unknown_name_in_python_is_refused():
    with pytest.raises(ConfigError, match="Did you mean `learning_rate`"):
        configs.replace(FinetuneConfig(), learning_rat=1.0)


def _fields(kind):
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(field.default):
            yield from _fields(type(field.default))
        else:
            yield field.name


def test_every_setting_is_read():
    """A field that no code outside config.py reads is a promise that nobody keeps."""
    read = set()
    for file in PACKAGE.rglob("*.py"):
        if file.name == "config.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                read.add(node.attr)
    import inspect

    from flaxtl import data

    accepted = {f.name for kind in (data.Augment, data.SoundAugment) for f in dataclasses.fields(kind)}
    accepted |= set(inspect.signature(data.open_source).parameters)
    # These are handed on by name, to the loader's changes and to `data.open_source`; what mixes batches is not.
    kinds = (configs.Augmentation, configs.SoundAugmentation, configs.Data)
    by_name = {f.name for kind in kinds for f in dataclasses.fields(kind)}
    by_name -= {"augment", "mixup", "cutmix"}
    assert by_name <= accepted
    for name, kind in COMMANDS.items():
        unread = [f for f in _fields(kind) if f not in read and f not in by_name]
        assert not unread, f"flaxtl {name} has settings that nothing reads: {unread}"


@pytest.mark.parametrize("recipe", sorted(Path(__file__).parent.parent.glob("configs/*.yaml")), ids=lambda p: p.name)
def test_every_recipe_loads_and_says_how_it_is_run(recipe):
    kind = PretrainConfig if recipe.name.startswith("pretrain") else FinetuneConfig
    configs.load(kind, recipe)
    assert f"--config configs/{recipe.name}" in recipe.read_text()


@pytest.mark.parametrize("words", [[], ["--help"], ["--version"]])
def test_help_does_not_import_jax(words):
    code = f"import sys; from flaxtl.cli import main; main({words!r}); import flaxtl; sys.exit('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
