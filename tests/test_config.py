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
from flaxtl.cli import main
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


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"strategy: head\nsize: 3\nstrategy: full\n", "'strategy' is set twice, in lines 1 and 3"),
        (b"run:\n  seed: 1\n  seed: 2\n", "'seed' is set twice, in lines 2 and 3"),
        (b"a: &x {b: 1}\nc: {<<: *x, d: 1, d: 2}\n", "'d' is set twice"),
        (b"- strategy: head\n", "holds a list; expected settings as 'name: value'"),
        (b"just words", "holds 'just words'; expected settings"),
        (b"run:\n\tseed: 1\n", r"a tab, where YAML takes spaces alone \(line 2, column 1\)"),
        (b"strategy: [head\n", r"not readable YAML: .* \(line 2, column 1\)"),
        (b"strategy: head\n---\nsize: 3\n", r"not readable YAML: .*another document \(line 2"),
        ("out: Übung\n".encode("latin-1"), "not in UTF-8, first in line 1"),
        ("strategy: head\n# für\n".encode("latin-1"), "not in UTF-8, first in line 2"),
        ("strategy: head\n".encode("utf-16"), "not in UTF-8"),
        (b"out: \x00\n", "holds the character 0x0"),
        (b"1: 2\n", "has the key 1; expected the name of a setting"),
        (b"? [1, 2]\n: 3\n", "not readable YAML"),
        (b"batch_size: 8\n", "no setting 'batch_size'. It belongs to a section: 'training:'"),
        (b"lr: 8\n", r"no setting 'lr'. Did you mean 'optimizer\.learning_rate'"),
        (b"training: {lr: 1}\n", r"no setting 'training\.lr'"),
        (b"training: [1]\n", r"'training' is \[1\]; expected settings of its own"),
        (b"training: {batch_size: 1.5}\n", r"'training\.batch_size' is 1\.5; expected a whole number"),
        (b"augment: {flip: 'yes'}\n", r"'augment\.flip' is 'yes'; expected True or False"),
        (b"trainable: head\n", "'trainable' is 'head'; expected a list"),
        (b"data: 2026-01-01\n", "'data' is an object of type date; expected text"),
        (b"network: {family: vit}\n", r"no setting 'network'\..*The file's settings are those of flaxtl pretrain"),
        (b"lowest: 1e-6\nhighest: 1.0\n", "settings are those of flaxtl lr-find"),
    ],
)
def test_a_wrong_file_is_named_with_its_line_and_what_to_do(content, sentence, tmp_path, capsys):
    file = tmp_path / "c [1].yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=sentence) as raised:
        configs.load(FinetuneConfig, file)
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert main(["finetune", "photos", "--config", str(file)]) == 2
    assert capsys.readouterr().err == f"flaxtl: {raised.value}\n"


@pytest.mark.parametrize("content", ["", "# nothing", "{}", "\ufeffstrategy: head", "run:", "examples_per_class:"])
def test_files_that_say_little_are_read(content, tmp_path):
    (tmp_path / "c.yaml").write_text(content, encoding="utf-8")
    assert configs.load(FinetuneConfig, tmp_path / "c.yaml") == FinetuneConfig()


def test_merged_keys_of_yaml_are_no_duplicates(tmp_path):
    (tmp_path / "c.yaml").write_text("network: &n {size: 64, channels: 1}\nlicence: x\n")
    assert configs.load(PretrainConfig, tmp_path / "c.yaml").network.size == 64
    (tmp_path / "c.yaml").write_text("network: {settings: {a: &a {b: 1, c: 2}, d: {<<: *a, b: 3}}}\n")
    assert configs.load(PretrainConfig, tmp_path / "c.yaml").network.settings["d"] == {"b": 3, "c": 2}


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
