"""Messages name settings as their reader writes them: Python's names in Python, options on the command line."""

import ast
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import flaxtl
from flaxtl import config as configs
from flaxtl import data, paths
from flaxtl.cli import main
from flaxtl.cli.wording import as_options, options, options_of
from flaxtl.config import COMMANDS, FinetuneConfig, LrFindConfig, Optimizer, Training
from flaxtl.errors import ConfigError, FlaxtlError, did_you_mean, listed, nearest, shown

PACKAGE = Path(flaxtl.__file__).parent
_OPTION = re.compile(r"(?<![\w=-])--[a-z][a-z-]+")


# What a message may contain


def _texts(tree):
    """(line, text) of every string that is no docstring; of a formatted string the constant parts as one."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    skipped = {
        id(part.value)
        for node in ast.walk(tree)
        for part in (node.body if isinstance(node, documented) else [])
        if isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [v.value if isinstance(v, ast.Constant) else "{}" for v in node.values]
            skipped |= {id(v) for v in node.values}
            yield node.lineno, "".join(map(str, parts))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.lineno, node.value


def options_in(source):
    """The lines of a module that write a setting as an option where they should write it as Python does."""
    found = []
    for line, text in _texts(ast.parse(source)):
        if text.startswith("flaxtl ") or "For example: flaxtl " in text:  # a whole command is one
            continue
        if _OPTION.fullmatch(text):  # the other name of an option, not a sentence
            continue
        found += [(line, option) for option in _OPTION.findall(text.replace("(--split", "("))]
    return found


def test_no_message_outside_the_command_line_names_an_option():
    """The form "(--split …)" is let through: of one message it is known that scripts look for it."""
    wrong = [
        f"{file.relative_to(PACKAGE)}:{line} says {option}"
        for file in sorted(PACKAGE.rglob("*.py"))
        if file.relative_to(PACKAGE).parts[0] != "cli"
        for line, option in options_in(file.read_text(encoding="utf-8"))
    ]
    assert not wrong, (
        "Messages name settings as Python does, in backticks: write `batch_size`, or with a value `strategy='full'`; "
        "the command line shows these as --batch-size and --strategy full by itself (flaxtl.cli.wording).\n"
        + "\n".join(wrong)
    )


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("raise E('give --batch-size')", ["--batch-size"]),
        ("raise E(f'{a} or --out {b}')", ["--out"]),
        ("'''--fine in a docstring'''", []),
        ("x = f'flaxtl pretrain {a} --config c.yaml'", []),
        ("x = 'XLA_FLAGS=--xla_force=8'", []),
        ("x = 'Give `batch_size`.'", []),
    ],
)
def test_the_search_for_options_finds_them(line, found):
    assert [option for _, option in options_in(line)] == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("`batch_size` is 0", "--batch-size is 0"),
        ("Set `strategy='full'`.", "Set --strategy full."),
        ("`strategy='cut', cut='stage 3', cut_head='new'`", "--strategy cut --cut 'stage 3' --cut-head new"),
        ("`resume=True` or `flip=False`", "--resume or --no-flip"),
        ("`pretrained`", "--from"),
        ("`group_by='*_{}_*'`", "--group-by '*_{}_*'"),
        ("`test_groups=['ann', 'bob']`", "--test-groups ann bob"),
        ("`learning_rate=1e-05`", "--learning-rate 1e-05"),
        ("`pip install x`, `colour` and `colour=3`", "`pip install x`, `colour` and `colour=3`"),
        ("`batch_size=__import__('os')`", "`batch_size=__import__('os')`"),
    ],
)
def test_the_command_line_writes_settings_as_options(text, said):
    assert as_options(text) == said


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_written_as_an_option_is_one(command, capsys):
    assert main([command, "--help"]) == 0
    said = re.sub(r"[│\s]+", " ", capsys.readouterr().out)
    missing = [name for name in options_of(COMMANDS[command]) if f"{as_options(f'`{name}`')} " not in said + " "]
    assert not [name for name in missing if f"{as_options(f'`{name}`')}," not in said]


BOTH = [
    ({"batch_size": 0}, ["--batch-size", "0"], "{} is 0; expected a whole number of at least 1", "batch_size"),
    ({"label_smoothing": 2.0}, ["--label-smoothing", "2"], "{} is 2.0; expected a share", "label_smoothing"),
    ({"lora_rank": 0}, ["--lora-rank", "0"], "{} is 0; expected a whole number", "lora_rank"),
    ({"budget": "soon", "strategy": "auto"}, ["--budget", "soon", "--strategy", "auto"], "{} is 'soon'", "budget"),
    ({"limit": 0}, ["--limit", "0"], "{} is 0; expected at least 1", "limit"),
    ({"soup": 3}, ["--soup", "3"], "{} average", "soup"),
    ({"classes": ("nobody",)}, ["--classes", "nobody"], "{} names 'nobody'", "classes"),
    ({"examples_per_class": 0}, ["--examples-per-class", "0"], "{} is 0", "examples_per_class"),
    ({"size": 0}, ["--size", "0"], "{} is 0", "size"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("messages")
    tiny.model().save(place / "base")
    tiny.folder(place / "data", per_class=2)
    return place


@pytest.mark.parametrize(("settings", "words", "sentence", "name"), BOTH, ids=[name for *_, name in BOTH])
def test_one_error_reads_right_in_python_and_on_the_command_line(settings, words, sentence, name, place, capsys):
    with pytest.raises(FlaxtlError) as raised:
        flaxtl.finetune(place / "base", place / "data", **settings)
    assert sentence.format(f"`{name}`") in str(raised.value)
    assert "--" not in str(raised.value)
    command = ["finetune", str(place / "data"), "--from", str(place / "base"), "--out", str(place / "run"), *words]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert sentence.format(f"--{name.replace('_', '-')}") in said
    assert "`" not in said


# Suggestions


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("lr", "learning_rate"),
        ("LR", "learning_rate"),
        ("max_lr", "learning_rate"),
        ("bs", "batch_size"),
        ("batch", "batch_size"),
        ("per_device_train_batch_size", "batch_size"),
        ("epoch", "epochs"),
        ("num_epochs", "epochs"),
        ("n_epochs", "epochs"),
        ("num_train_epochs", "epochs"),
        ("wd", "weight_decay"),
        ("output", "out"),
        ("output_dir", "out"),
        ("save_dir", "out"),
        ("from_", "pretrained"),
        ("base_model", "pretrained"),
        ("augmentation", "augment"),
        ("transforms", "augment"),
        ("early_stopping", "patience"),
        ("early_stopping_patience", "patience"),
        ("validation_split", "validation"),
        ("random_state", "seed"),
        ("image_size", "size"),
        ("learning_rat", "learning_rate"),
        ("Weight-Decay", "weight_decay"),
        ("freeze_backbone", "strategy"),
        ("max_grad_norm", "clip_norm"),
        ("gradient_accumulation_steps", "microbatch"),
    ],
)
def test_names_of_other_libraries_lead_to_the_setting(given, meant, place, capsys):
    with pytest.raises(ConfigError, match=f"no setting '{given}'. Did you mean `{meant}`"):
        configs.replace(FinetuneConfig(), **{given: 1})
    option = f"--{options()[meant].replace('_', '-')}"
    word = f"--{given.replace('_', '-')}"
    assert main(["finetune", "photos", word, "1"]) == 2
    assert f"has no option {word}. Did you mean {option}" in capsys.readouterr().err
    (place / "c.yaml").write_text(f"{given}: 1\n")
    with pytest.raises(ConfigError, match=rf"no setting '{given}'. Did you mean '([a-z]+\.)?{meant}'"):
        configs.load(FinetuneConfig, place / "c.yaml")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("device", "JAX_PLATFORMS"),
        ("dropout", "part of the pretrained network"),
        ("num_workers", "as many threads"),
        ("fp16", "dtype"),
        ("num_classes", "counted from the data"),
    ],
)
def test_what_has_no_setting_is_answered_too(given, said, capsys):
    with pytest.raises(ConfigError, match=said):
        configs.replace(FinetuneConfig(), **{given: 1})
    assert main(["finetune", "photos", f"--{given.replace('_', '-')}=1"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "meant"),
    [
        ({"strategy": "linear_probe"}, "head"),
        ({"strategy": "finetune"}, "full"),
        ({"strategy": "lp-ft"}, "lpft"),
        ({"optimizer": "Adam"}, "adamw"),
        ({"schedule": "cos"}, "cosine"),
        ({"monitor": "val_loss"}, "loss"),
        ({"class_weight": "balanced"}, "auto"),
    ],
)
def test_values_of_other_libraries_lead_to_the_value(settings, meant):
    with pytest.raises(ConfigError, match=f"expected one of .*Did you mean '{meant}'"):
        configs.replace(FinetuneConfig(), **settings)


def test_every_other_name_leads_to_a_setting_that_exists():
    from flaxtl import setting_names

    every = {name for kind in COMMANDS.values() for name in options_of(kind)}
    assert set(setting_names._OTHER_NAMES.values()) <= every
    assert not set(setting_names._NO_SETTING) & every
    assert not set(setting_names._NO_SETTING) & set(setting_names._OTHER_NAMES)


def test_a_suggestion_is_never_what_was_given():
    assert nearest("head", ["head", "heads"]) == ["heads"]
    assert did_you_mean("head", ["head"]) == ""
    assert did_you_mean("Überweisung", ["überweisung"]) == " Did you mean 'überweisung'?"
    assert did_you_mean("zzz", ["learning_rate"]) == ""


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("head", "'head/**'"),
        ("head/", "'head/**'"),
        ("params:head", "'params:head/**'"),
        ("params:stats/**", "'batch_stats:stats/**'"),
        ("hed/**", "'head/**'"),
        ("head/kernl", "'head/kernel'"),
    ],
)
def test_patterns_that_are_proposed_do_match(pattern, meant):
    tree = {"params": {"head": {"kernel": 1}, "backbone": {"w": 1}}, "batch_stats": {"stats": {"mean": 1}}}
    with pytest.raises(paths.PathError) as raised:
        paths.select(pattern, tree)
    assert f"Did you mean {meant}" in str(raised.value)
    for proposed in re.findall(r"'([^']*)'", str(raised.value).split("Did you mean")[1]):
        assert paths.matching(proposed, tree)


def test_lists_are_whole_up_to_a_bound():
    assert listed(range(200)).endswith(", 199")
    assert listed(range(1000)).endswith("199 and 800 more")
    assert listed(["x" * 500] * 10).endswith("x and 7 more")
    assert listed(["x" * 5000]) == "x" * 5000
    assert listed([]) == ""


def test_values_in_messages_are_short():
    for value in (
        np.zeros((500, 500)),
        jnp.zeros(3),
        list(range(10**6)),
        "x" * 10**6,
        tiny.model(),
        tiny.source(),
        (np.zeros((500, 500)), [1]),
        {i: np.zeros(9) for i in range(999)},
        Optimizer,
        Path("p" * 300),
    ):
        assert len(shown(value)) < 400
        assert "\n" not in shown(value)
    assert (shown(np.float32(2.5)), shown(jnp.float32(2.5)), shown(None), shown(Path("a"))) == (
        "2.5",
        "2.5",
        "None",
        "'a'",
    )


# Sections and types


def test_a_section_can_be_given_as_a_whole_or_in_part():
    base = configs.replace(FinetuneConfig(), learning_rate=0.5, epochs=3)
    whole = configs.replace(base, optimizer=Optimizer(momentum=0.5))
    assert (whole.optimizer, whole.training.epochs) == (Optimizer(momentum=0.5), 3)
    part = configs.replace(base, optimizer={"momentum": 0.5})
    assert (part.optimizer.learning_rate, part.optimizer.momentum) == (0.5, 0.5)
    assert configs.replace(base, optimizer="sgd").optimizer.optimizer == "sgd"
    assert configs.replace(base, training=Training(epochs=9), batch_size=7).training == Training(epochs=9, batch_size=7)
    assert configs.replace(base, contrast=0.25).augment.contrast == 0.25
    assert configs.replace(base, contrast=configs.Contrast(contrast_batch=8)).contrast.contrast_batch == 8


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"optimizer": Training()}, "`optimizer` is an object of type Training; expected one of 'adamw', 'sgd'"),
        (
            {"training": 3},
            r"`training` is 3; expected flaxtl.config.Training\(…\), or its settings one by one: `epochs`",
        ),
        ({"lora": True}, "`lora` is True; expected flaxtl.config.Lora"),
        ({"augment": {"flipp": True}}, "'augment' has no setting 'flipp'. Did you mean `flip`"),
        ({"batch_size": "8"}, "`batch_size` is '8'; expected a whole number"),
        ({"batch_size": 8.0}, "`batch_size` is 8.0; expected a whole number"),
        ({"batch_size": True}, "`batch_size` is True; expected a whole number"),
        ({"epochs": "many"}, "`epochs` is 'many'; expected a number"),
        ({"epochs": np.zeros((9, 9))}, r"`epochs` is an array of shape \(9, 9\)"),
        ({"flip": 1}, "`flip` is 1; expected True or False"),
        ({"trainable": "head/**"}, r"`trainable` is 'head/\*\*'; expected a list such as \['head/\*\*'\]"),
        ({"trainable": [3]}, "An item of `trainable` is 3; expected text"),
        ({"zoom": (1.0,)}, r"`zoom` is \(1.0,\); expected 2 values"),
        ({"out": 3}, "`out` is 3; expected text"),
        ({"wise": "half"}, "`wise` is 'half'; expected one of 'auto', a number"),
        ({"wise": None, "rand_augment": (2,)}, r"`rand_augment` is \(2,\); expected 2 values"),
    ],
)
def test_wrong_types_of_settings_are_named(settings, said):
    with pytest.raises(ConfigError, match=said):
        configs.replace(FinetuneConfig(), **settings)


def test_numbers_of_numpy_are_numbers():
    config = configs.replace(
        FinetuneConfig(), batch_size=np.int64(8), epochs=np.float32(2), flip=np.bool_(True), seed=np.int8(3)
    )
    assert config == configs.replace(FinetuneConfig(), batch_size=8, epochs=2.0, flip=True, seed=3)
    assert type(config.training.batch_size) is int


NO_MODEL = [None, 3, 2.5, {}, [], b"x", object(), np.zeros(3), "", " ", True, str]


@pytest.mark.parametrize("value", NO_MODEL, ids=lambda v: type(v).__name__)
def test_what_is_no_model_is_refused_with_a_sentence(value):
    for call in (
        lambda: flaxtl.load(value),
        lambda: flaxtl.finetune(value, tiny.source()),
        lambda: flaxtl.evaluate(value, tiny.source()),
        lambda: flaxtl.lr_find(value, tiny.source()),
    ):
        with pytest.raises(FlaxtlError, match="cannot be loaded as a model"):
            call()


@pytest.mark.parametrize("value", [None, 3, 2.5, {}, [1], b"x", object(), str, "", "a\0b", "x" * 5000], ids=str)
def test_what_is_no_path_is_refused_with_a_sentence(value):
    calls = [
        flaxtl.Model.load,
        tiny.model().save,
        flaxtl.checkpoint.load,
        flaxtl.checkpoint.describe,
        lambda v: flaxtl.checkpoint.save(v, {"a": np.ones(1)}),
        data.open_source,
        data.from_folder,
        data.from_csv,
        data.from_jsonl,
        data.from_parquet,
    ]
    for call in calls:
        with pytest.raises(FlaxtlError) as raised:
            call(value)
        assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    "value", [None, 3, {}, [], object(), np.zeros(3), (np.zeros((9, 9)), [1]), str], ids=lambda v: type(v).__name__
)
def test_what_is_no_data_is_refused_with_a_sentence(value):
    model = tiny.model()
    for call in (
        lambda: flaxtl.finetune(model, value),
        lambda: flaxtl.pretrain(value),
        lambda: flaxtl.evaluate(model, value),
        lambda: flaxtl.lr_find(model, value),
        lambda: model.predict(value),
        lambda: model.features(value),
    ):
        with pytest.raises(FlaxtlError) as raised:
            call()
        assert len(str(raised.value)) < 400


@pytest.mark.parametrize("name", ["pretrained", "from_", "base_model", "weights"])
def test_a_second_model_is_refused(name):
    with pytest.raises(ConfigError, match=f"The model is the first argument, .* leave '{name}' out"):
        flaxtl.finetune(tiny.model(), tiny.source(), **{name: "flaxtl:characters"})


def test_arguments_in_the_wrong_order_are_told_apart():
    with pytest.raises(FlaxtlError, match="the model first, then the data"):
        flaxtl.finetune(tiny.source(), tiny.model())
    with pytest.raises(FlaxtlError, match="the model first, then the data"):
        flaxtl.evaluate(tiny.model(), tiny.model())


@pytest.mark.parametrize("value", [0, -1, "8", None, 2.5, True, float("nan")], ids=repr)
def test_a_batch_size_that_is_none_is_refused(value):
    model, pictures = tiny.model(), np.zeros((3, 8, 8), np.uint8)
    for call in (model.predict, model.features, model.logits):
        with pytest.raises(ConfigError, match=r"`batch_size` is .*; expected a whole number of at least 1"):
            call(pictures, batch_size=value)
    if value is not None:
        with pytest.raises(ConfigError, match="`batch_size` is"):
            flaxtl.evaluate(model, tiny.source(), batch_size=value)


@pytest.mark.parametrize("value", [3, {}, "x", LrFindConfig(), np.zeros(2)], ids=lambda v: type(v).__name__)
def test_a_configuration_of_another_type_is_refused(value):
    model, source = tiny.model(), tiny.source()
    for call in (
        lambda: flaxtl.finetune(model, source, config=value),
        lambda: flaxtl.pretrain(source, config=value),
        lambda: flaxtl.evaluate(model, source, options=value),
        lambda: flaxtl.lr_find(model, source, FinetuneConfig()),
    ):
        with pytest.raises(ConfigError, match="expected an object of type"):
            call()


@pytest.mark.parametrize("labels", ["abc", 3, None, [1, 2], ["a", "a"], [], [None]], ids=repr)
def test_labels_of_a_head_are_names(labels):
    with pytest.raises(ConfigError):
        tiny.model().with_head(labels)
