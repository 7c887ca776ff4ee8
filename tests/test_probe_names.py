"""Class names as examples of texts: when they are, what they may and may not do, and who is told."""

import numpy as np
import pytest

import flaxtl
from flaxtl.data import Source, from_arrays
from flaxtl.errors import ConfigError
from flaxtl.probe import solve_head
from flaxtl.probe.curve import learning_curve
from flaxtl.probe.names import ENOUGH, names_to_learn, phrase, solve_with_names
from tests.tiny_text import sentences, text_model, write_tokenizer

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(6, 12))
QUICK = {"strengths": (0.1, 1e-2, 1e-3), "folds": 2, "repeats": 1, "scalings": ("unit",)}


def points(shots, noise=1.0, seed=1):
    """Returns features and classes, so many of each of six classes."""
    y = np.repeat(np.arange(6), shots)
    return CENTRES[y] + noise * np.random.default_rng(seed).normal(size=(len(y), 12)), y


def texts(names, *, raw=None):
    return Source.of("text", [f"text {i}" for i in range(len(names))] if raw is None else raw, names)


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("card_arrival", "card arrival"),
        ("  a--b ", "a b"),
        ("PINBlocked2", "PINBlocked2"),
        ("größe.klein", "größe klein"),
    ],
)
def test_identifiers_become_words(label, said):
    assert phrase(label) == said


@pytest.mark.parametrize(
    "source",
    [
        texts(["0", "1"]),
        texts(["good", "7"]),
        texts(["a_b", "a b"]),  # they would be the same text
        texts(["good", "bad"], raw=[("one", "two"), ("three", "four")]),
        from_arrays(np.zeros((2, 8, 8, 3), np.uint8), [0, 1], labels=("cat", "dog")),
        texts(["x", "y"]).with_outputs([[0, 1], [1, 0]], ["good", "bad"], "multilabel"),
    ],
    ids=["numbers", "a number", "alike", "pairs", "pictures", "several labels"],
)
def test_where_names_are_no_texts_of_the_classes_they_are_left_alone_or_refused(source):
    assert names_to_learn(source, "auto") is None
    with pytest.raises(ConfigError, match="the class names cannot count as examples here"):
        names_to_learn(source, "use")


def test_many_examples_need_no_names_and_nobody_is_made_to_use_them():
    many = texts(["good", "bad"] * (ENOUGH + 1))
    assert names_to_learn(many, "auto") is None
    assert names_to_learn(many, "use").labels == ("bad", "good")
    assert names_to_learn(texts(["good", "bad"]), "ignore") is None


def test_good_names_help_and_misleading_ones_are_left_out():
    x, y = points(2)
    unseen, wanted = points(200, seed=2)
    plain = solve_head(x, y, 6, **QUICK)
    head, used, said = solve_with_names(x, y, CENTRES, **QUICK)
    assert used
    assert "held-out loss" in said
    assert (head.logits(unseen).argmax(1) == wanted).mean() > (plain.logits(unseen).argmax(1) == wanted).mean() + 0.02
    other, used, said = solve_with_names(x, y, CENTRES[::-1], **QUICK)
    assert not used
    assert "left out" in said
    assert np.array_equal(other.kernel, plain.kernel)
    assert np.array_equal(other.bias, plain.bias)


def test_names_are_never_held_out_and_are_in_every_training_part():
    x, y = points(4, noise=2.0)
    groups = [str(i // 2) for i in range(len(y))]
    for given in (None, groups):
        head, _, _ = solve_with_names(x, y, CENTRES, class_names="use", groups=given, **QUICK)
        held_out = ~np.isnan(head.cv.logits[:, 0])
        assert held_out[: len(y)].all()
        assert not held_out[len(y) :].any()
    # Wrong names in the training part show in the held-out loss, which they could not from outside of it.
    wrong, _, _ = solve_with_names(x, y, CENTRES[::-1], class_names="use", **QUICK)
    assert wrong.cv.best.loss > head.cv.best.loss + 0.1


def test_of_features_that_these_examples_shaped_no_held_out_loss_is_asked():
    x, y = points(2)
    head, used, said = solve_with_names(x, y, CENTRES, tuned=True, **QUICK)
    assert used
    assert said == "the class names count as examples (they alone tell the examples apart)"
    other, used, said = solve_with_names(x, y, CENTRES[::-1], tuned=True, **QUICK)
    assert not used
    assert np.array_equal(other.kernel, solve_head(x, y, 6, **QUICK).kernel)
    assert not np.array_equal(head.kernel, other.kernel)


def test_with_one_example_a_class_names_count_where_they_alone_tell_the_examples_apart():
    x, y = points(1)
    unseen, wanted = points(200, seed=2)
    plain = solve_head(x, y, 6)
    head, used, said = solve_with_names(x, y, CENTRES)
    assert used
    assert "nothing can be held out" in said
    assert (head.logits(unseen).argmax(1) == wanted).mean() > (plain.logits(unseen).argmax(1) == wanted).mean()
    _, used, _ = solve_with_names(x, y, CENTRES[::-1])
    assert not used


def test_a_learning_curve_with_names_begins_higher():
    x, y = points(8, noise=2.0)
    source = from_arrays(x.astype(np.float32), y, labels="abcdef", modality="array")
    plain, named = (learning_curve(x, source, scaling="unit", strength=1e-3, names=names) for names in (None, CENTRES))
    assert plain.examples == named.examples
    assert named.accuracy[0] > plain.accuracy[0] + 0.05


def test_a_run_says_what_came_of_the_names(tmp_path):
    model = text_model(write_tokenizer(tmp_path), ("bad", "good"))
    source = Source.of("text", sentences(8)[0], [{"yes": "good", "no": "bad"}[n] for n in sentences(8)[1]])
    used = flaxtl.finetune(model, source, test=source, class_names="use")
    assert "the class names count as examples, as asked" in used.summary()
    auto = flaxtl.finetune(model, source, test=source)
    assert "held-out loss" in auto.evidence[0]["class_names"]
    ignored = flaxtl.finetune(model, source, test=source, class_names="ignore")
    assert "class_names" not in ignored.evidence[0]
    heads = [r.model.params["head"]["kernel"] for r in (used, ignored)]
    assert not np.array_equal(*heads)
    with pytest.raises(ConfigError, match="this strategy solves none"):
        flaxtl.finetune(model, source, strategy="full", class_names="use")
