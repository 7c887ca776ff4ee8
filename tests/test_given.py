"""Data as jobs take it: several outputs, limits and classes, what a test set may lack, what the user is told."""

import json

import numpy as np
import pytest
import tiny
from PIL import Image as pillow

import flaxtl
from flaxtl import data
from flaxtl.cli import main
from flaxtl.data import Source, Splits, from_arrays
from flaxtl.data.duplicates import same_content
from flaxtl.errors import DataError


def described(task, per_class=8, seed=0):
    """Pictures whose brightness says what is to be learned."""
    pictures, kinds = tiny.pictures(per_class, seed)
    if task == "multilabel":
        values, names = np.stack([kinds > 0, kinds > 1], axis=1), ("bright", "very")
    else:
        values, names = np.stack([100.0 + 10.0 * kinds, -kinds], axis=1), ("price", "loss")
    return from_arrays(pictures, modality="image").with_outputs(values, names, task)


def table_of(place, task, per_class=4):
    """The same as a table of files."""
    source = described(task, per_class)
    rows = ["path," + ",".join(source.labels)]
    for i, (picture, values) in enumerate(zip(source.raw, source.targets, strict=True)):
        pillow.fromarray(picture).save(place / f"{i}.png")
        rows.append(f"{i}.png," + ",".join(f"{v:g}" for v in values))
    (place / "t.csv").write_text("\n".join(rows))
    return place / "t.csv"


STEPS = {"lpft": {"epochs": 2, "validation": 0.25}, "full": {"epochs": 60, "batch_size": 8}}


@pytest.mark.parametrize(
    ("task", "strategy"),
    [("multilabel", "head"), ("multilabel", "lpft"), ("regression", "head"), ("regression", "full")],
)
def test_several_outputs_are_learned_saved_and_measured(task, strategy, tmp_path):
    more = STEPS.get(strategy, {})
    result = flaxtl.finetune(
        tiny.model(), described(task), test=described(task, seed=1), strategy=strategy, cache="off", **more
    )
    figure = result.metrics.accuracy if task == "multilabel" else result.metrics.r2
    assert figure.value > 0.7  # also of numbers far from 0, which few steps from a head of zeros would not reach
    assert figure.low <= figure.value <= figure.high
    assert result.model.card.head.task == task
    assert json.loads(json.dumps(result.to_dict()))["test"]["task"] == task
    loaded = flaxtl.Model.load(result.model.save(tmp_path / "model"))
    again = flaxtl.evaluate(loaded, described(task, seed=1))
    assert again.figures == result.metrics.figures
    assert result.summary().count(result.model.card.labels[1]) >= 1


def test_several_outputs_on_the_command_line(tmp_path, capsys):
    tiny.model().save(tmp_path / "base")
    file = table_of(tmp_path, "regression")
    words = (
        f"{file} --task regression --label-column price,loss --from {tmp_path}/base --out {tmp_path}/run --cache off"
    )
    assert main(["finetune", *words.split(), "--json", "--test", str(file)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["classes"] == ["price", "loss"]
    assert found["test"]["r2"]["value"] > 0.5
    words = ["evaluate", f"{tmp_path}/run/model", str(file), "--label-column", "price,loss", "--json"]
    assert main(words) == 0
    # Features that were computed before are those computed now but for the last digits.
    assert json.loads(capsys.readouterr().out)["mse"] == pytest.approx(found["test"]["mse"], rel=1e-5)
    assert main(["predict", f"{tmp_path}/run/model", str(tmp_path / "0.png"), "--format", "csv"]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.endswith(",price,loss")
    assert float(row.split(",")[-2]) == pytest.approx(100.0, abs=15.0)


def test_numbers_are_learned_with_spread_one_and_the_head_is_put_back():
    from flaxtl.strategies.scaling import OutputScale

    source = described("regression")
    scale = OutputScale.of(source)
    learned = scale.applied(source)
    np.testing.assert_allclose(learned.targets.mean(0), 0.0, atol=1e-6)
    np.testing.assert_allclose(learned.targets.std(0), 1.0, atol=1e-6)
    model = tiny.model().with_head(source.labels, task="regression")
    logits = model.logits(source.raw)
    np.testing.assert_allclose(scale.undone(model).logits(source.raw), logits * scale.spread + scale.mean, rtol=1e-5)
    assert OutputScale.of(tiny.source()).applied(None) is None


def test_several_labels_are_learned_from_scratch_too():
    result = flaxtl.pretrain(
        described("multilabel"),
        test=described("multilabel", seed=1),
        size=8,
        channels=1,
        epochs=1,
        cache="off",
        family="resnet",
        settings={"depths": [1], "widths": [8], "stem": "cifar"},
        validation=0.0,
    )
    assert result.model.card.head.task == result.metrics.task == "multilabel"


def test_what_cannot_be_learned_from_several_outputs():
    same = described("regression")
    same = same.with_outputs(np.ones((len(same), 1)), ["x"], "regression")
    with pytest.raises(DataError, match="Every example has the same x"):
        flaxtl.finetune(tiny.model(), same)
    with pytest.raises(DataError, match="The data is of regression, but `task` says multilabel"):
        flaxtl.finetune(tiny.model(), described("regression"), task="multilabel")
    with pytest.raises(DataError, match="no classes, of each of which"):
        flaxtl.finetune(tiny.model(), described("multilabel"), examples_per_class=1)


# What is taken


def test_limits_and_classes_on_the_command_line(tmp_path, capsys):
    tiny.model().save(tmp_path / "base")
    for part in ("photos", "exam"):
        tiny.folder(tmp_path / part, per_class=6)
    words = (
        f"{tmp_path}/photos --from {tmp_path}/base --out {tmp_path}/run --limit 8 --classes 2=low,10=low --cache off"
    )
    assert main(["finetune", *words.split(), "--json", "--test", f"{tmp_path}/exam"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["examples"], found["classes"], found["test"]["examples"]) == (8, ["low", "a"], 18)
    assert sum(map(sum, found["test"]["confusion"])) == 18
    words = [
        "evaluate",
        f"{tmp_path}/run/model",
        f"{tmp_path}/exam",
        "--classes",
        "2=low,10=low",
        "--limit",
        "5",
        "--json",
    ]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["examples"] == 5
    (tmp_path / "exam" / "a" / "bad.png").write_bytes(b"none")
    words = [
        "evaluate",
        f"{tmp_path}/run/model",
        f"{tmp_path}/exam",
        "--classes",
        "2=low,10=low",
        "--on-bad-file",
        "skip",
    ]
    assert main(words) == 0
    assert "note: 1 unreadable files of the test data were skipped" in capsys.readouterr().err


def test_sources_of_python_are_selected_from_as_well():
    result = flaxtl.finetune(tiny.model(), tiny.source(), classes=("a=",), limit=4, cache="off")
    assert (result.examples, result.model.card.labels) == (4, ("2", "10"))
    parts = Splits(tiny.source(), test=tiny.source(seed=1))
    assert flaxtl.finetune(tiny.model(), parts, split="train=test", cache="off").metrics is None


def test_an_unseen_group_is_what_is_measured_on(tmp_path, capsys):
    tiny.model().save(tmp_path / "base")
    for file in tiny.folder(tmp_path / "photos", per_class=4).rglob("*.png"):
        file.rename(file.with_name(f"{'ann' if int(file.stem) % 4 else 'bob'}-{file.name}"))
    data_words = [f"{tmp_path}/photos", "--group-by", "{}-*", "--test-groups", "bob"]
    out = ["--from", f"{tmp_path}/base", "--out", f"{tmp_path}/run", "--cache", "off", "--json"]
    assert main(["finetune", *data_words, *out]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["examples"], found["test"]["examples"]) == (9, 3)
    assert main(["evaluate", f"{tmp_path}/run/model", *data_words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == found["test"]["accuracy"]


def test_a_test_set_may_hold_one_class_but_training_data_may_not(tmp_path):
    result = flaxtl.finetune(tiny.model(), tiny.source(), cache="off")
    for name in ("one", "many"):
        tiny.folder(tmp_path / name, per_class=2, seed=1)
    for name in ("2", "10"):
        for file in (tmp_path / "one" / name).iterdir():
            file.unlink()
        (tmp_path / "one" / name).rmdir()
    measured = flaxtl.evaluate(result.model, tmp_path / "one")
    assert (measured.examples, measured.labels) == (2, ("2", "10", "a"))
    (tmp_path / "one.csv").write_text("path,label\nmany/a/4.png,a\n")
    assert flaxtl.evaluate(result.model, tmp_path / "one.csv").examples == 1
    assert flaxtl.finetune(tiny.model(), tmp_path / "many", test=tmp_path / "one", cache="off").metrics.examples == 2
    with pytest.raises(DataError, match="The data holds the one class 'a'; expected at least two"):
        flaxtl.finetune(tiny.model(), tmp_path / "one")


# What the user is told


def test_examples_on_both_sides_are_told_of(tmp_path):
    tiny.folder(tmp_path / "photos")
    tiny.folder(tmp_path / "exam", per_class=2, seed=1)
    twin = tmp_path / "exam" / "a" / "twin.png"
    twin.write_bytes((tmp_path / "photos" / "2" / "0.png").read_bytes())
    [note] = flaxtl.finetune(tiny.model(), tmp_path / "photos", test=tmp_path / "exam", cache="off").notes
    assert note.startswith(f"1 of the 7 test examples are among the training examples too, such as {twin}")
    parts = Splits(tiny.source(), tiny.source().subset([0, 5]), tiny.source(seed=1))
    notes = flaxtl.finetune(tiny.model(), parts, cache="off").notes
    assert [note[:47] for note in notes] == ["2 of the 2 validation examples are among the tr"]


def test_skipped_files_of_the_test_data_are_told_of_too(tmp_path):
    for part in ("train", "test"):
        tiny.folder(tmp_path / part, per_class=2, seed=part == "test")
        (tmp_path / part / "a" / "bad.png").write_bytes(b"none")
    notes = flaxtl.finetune(tiny.model(), tmp_path, on_bad_file="skip", cache="off").notes
    assert notes == (
        f"1 unreadable files were skipped: {tmp_path / 'train' / 'a' / 'bad.png'}.",
        f"1 unreadable files of the test data were skipped: {tmp_path / 'test' / 'a' / 'bad.png'}.",
    )


def test_equal_content_is_found_whatever_it_is_called(tmp_path):
    import zipfile

    picture = tmp_path / "a.png"
    pillow.new("L", (4, 4), 7).save(picture)
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.write(picture, "b.png")
    record = data.Record([picture.read_bytes()], 0, "set:1")
    several = Source.of("image", [picture, data.image.ZipMember(tmp_path / "z.zip", "b.png")])
    assert same_content([several]) == [[(0, 0), (0, 1)]]
    assert same_content([Source.of("image", [record, record])]) == [[(0, 0), (0, 1)]]
    arrays = from_arrays(np.stack([np.zeros((4, 4)), np.ones((4, 4)), np.zeros((4, 4))]))
    assert same_content([arrays]) == [[(0, 0), (0, 2)]]
    assert same_content([Source.of("text", [("a", "b"), ("ab", ""), ("a", "b")])]) == [[(0, 0), (0, 2)]]
    assert same_content([Source.of("text", ["x", "y"])]) == []


def test_examples_of_a_published_set_have_a_content_by_which_activations_are_kept():
    from flaxtl.activations.identity import content_digest

    records = [data.Record([b"x", b"y", b"x"], i, str(i)) for i in range(3)]
    first, second, third = map(content_digest, records)
    assert first == third != second
