"""Texts: read, cut into tokens as the card says, batched by length; bad ones handled or refused by name."""

import shutil
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_text import sentences, text_model, write_tokenizer

import flaxtl
from flaxtl.card import Text
from flaxtl.data import Loader, Source, from_csv, from_folder
from flaxtl.data.image import ZipMember
from flaxtl.data.preprocess import preprocess_for
from flaxtl.data.text import TokenizerFile, length_buckets, read_text
from flaxtl.errors import CardError, DataError
from flaxtl.model import Model
from flaxtl.pipeline import compiled

CLS, SEP, UNK = 2, 3, 1
SPEC = Text(max_length=8, types=True)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def pre(tokenizer):
    return preprocess_for(SPEC, {"tokenizer.json": tokenizer})


def real(row):
    return row["ids"][: row["mask"].sum()].tolist()


def test_a_row_is_cut_and_filled_up_as_the_card_says_and_not_the_tokenizers_file(pre):
    [row] = pre.rows("The film was GOOD")
    assert row["ids"].tolist() == [CLS, 13, 10, 15, 4, SEP, 0, 0]
    assert row["mask"].tolist() == [1, 1, 1, 1, 1, 1, 0, 0]
    assert {name: (a.shape, a.dtype) for name, a in row.items()} == {
        name: (form.shape, form.dtype) for name, form in pre.row.items()
    }
    assert real(pre.rows("a " * 50)[0]) == [CLS, *[14] * 6, SEP]


def test_padding_is_the_cards(tokenizer):
    pre = preprocess_for(Text(max_length=5, pad_id=9), {"tokenizer.json": tokenizer})
    assert pre.rows("bad")[0]["ids"].tolist() == [CLS, 7, SEP, 9, 9]
    assert set(pre.row) == {"ids", "mask"}


def test_a_pair_says_which_text_a_token_is_of(tokenizer):
    pre = preprocess_for(Text(max_length=8, pair=True, types=True), {"tokenizer.json": tokenizer})
    [row] = pre.rows(("good film", "bad"))
    assert real(row) == [CLS, 4, 10, SEP, 7, SEP]
    assert row["types"].tolist() == [0, 0, 0, 0, 1, 1, 0, 0]
    assert pre.rows(["the " * 40, "a " * 40])[0]["mask"].sum() == 8


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", [CLS, SEP]),
        (" \n\t\x00\u200b", [CLS, SEP]),
        ("good 😀👩‍👩‍👧 film", [CLS, 4, UNK, 10, SEP]),
        ("שלום good", [CLS, UNK, 4, SEP]),
        ("\u202egood", [CLS, 4, SEP]),
        ("x" * 100_000, [CLS, UNK, SEP]),
        ("good " * 20_000, [CLS, *[4] * 6, SEP]),
        ("good\u2028bad", [CLS, 4, 7, SEP]),
    ],
    ids=["empty", "blank", "emoji", "right-to-left", "override", "one long word", "long", "separators"],
)
def test_odd_texts_are_read(pre, text, tokens):
    assert real(pre.rows(text)[0])[: len(tokens)] == tokens


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"caf\xe9", "A text is not UTF-8 at byte 3"),
        ("half \ud83d", "half a character"),
        (None, "An example is NoneType"),
        (float("nan"), r"An example is float \('nan'\); expected a text"),
        (np.zeros(3), "An example is ndarray"),
        (("good", "bad"), "An example is 2 text"),
    ],
)
def test_what_is_no_text_is_refused(pre, raw, said):
    with pytest.raises(DataError, match=said):
        pre.rows(raw)


@pytest.mark.parametrize("raw", ["good", ("a", "b", "c"), ("good",)])
def test_a_network_for_pairs_refuses_what_is_no_pair(tokenizer, raw):
    pre = preprocess_for(Text(max_length=8, pair=True), {"tokenizer.json": tokenizer})
    with pytest.raises(DataError, match="card says 2"):
        pre.rows(raw)


@given(st.text(alphabet=st.sampled_from("good bad 😀"), max_size=400))
def test_the_beginning_of_a_long_text_gives_the_tokens_of_all_of_it(pre, text):
    whole, _ = pre._encoded(text + "z")  # ends in another word, so that no two texts are equal
    from flaxtl.data.text import _tokenizer

    assert whole.ids == _tokenizer(pre.file, 8, False).encode(text + "z").ids


def test_files_are_read_and_a_bad_one_is_named(tmp_path):
    good, bad = tmp_path / "good.txt", tmp_path / "bad.txt"
    good.write_bytes("\ufeffcafé".encode())
    bad.write_bytes(b"abc\xff")
    assert read_text(good) == "café"
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(good, "good.txt")
    assert read_text(ZipMember(tmp_path / "a.zip", "good.txt")) == "café"
    with pytest.raises(DataError, match=r"bad\.txt is not UTF-8 at byte 3"):
        read_text(bad)
    with pytest.raises(DataError, match=r"none\.txt cannot be read"):
        read_text(tmp_path / "none.txt")


def test_a_folder_with_a_bad_text_is_refused_before_training_or_leaves_it_out(tmp_path):
    for name, content in (("yes/1.txt", b"good"), ("no/1.txt", b"bad"), ("no/2.txt", b"\xff\xfe")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=r"no/2\.txt is not UTF-8"):
        from_folder(tmp_path)
    source = from_folder(tmp_path, on_bad_file="skip")
    assert (source.modality, len(source), len(source.skipped)) == ("text", 2, 1)


def test_newlines_inside_quotes_stay_in_a_csv(tmp_path, pre):
    (tmp_path / "t.csv").write_bytes(b'text,label\n"good\nfilm, ""fine""",yes\r\nbad,no\n')
    source = from_csv(tmp_path / "t.csv")
    assert list(source.raw) == ['good\nfilm, "fine"', "bad"]
    assert real(pre.rows(source.raw[0])[0])[1:3] == [4, 10]
    (tmp_path / "bad.csv").write_bytes(b"text,label\ngood,yes\ncaf\xe9,no\n")
    with pytest.raises(DataError, match="not UTF-8 at line 3"):
        from_csv(tmp_path / "bad.csv")


def test_a_model_without_its_tokenizer_is_refused_when_a_text_comes(tmp_path):
    pre = preprocess_for(SPEC)
    assert pre.row["ids"].shape == (8,)
    with pytest.raises(CardError, match=r"no tokenizer\.json beside it"):
        pre.rows("good")
    with pytest.raises(CardError, match="cannot be read: No such file"):
        preprocess_for(SPEC, {"tokenizer.json": tmp_path / "tokenizer.json"})


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b"[1, 2"])
def test_a_damaged_tokenizer_is_refused_by_name(tmp_path, content):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(CardError, match=r"tokenizer\.json cannot be read as a tokenizer"):
        preprocess_for(SPEC, {"tokenizer.json": tmp_path / "tokenizer.json"}).rows("good")


def test_a_length_that_holds_no_word_is_refused(tokenizer):
    with pytest.raises(CardError, match="keeps 2 tokens, but 2 special"):
        preprocess_for(Text(max_length=2), {"tokenizer.json": tokenizer}).rows("good")


def test_without_the_library_the_sentence_says_what_to_install(tokenizer, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(DataError, match=r"pip install 'flaxtl\[text\]'"):
        preprocess_for(Text(max_length=11), {"tokenizer.json": tokenizer}).rows("good")


def test_a_tokenizer_is_known_by_its_content(tokenizer, tmp_path):
    copy = shutil.copy(tokenizer, tmp_path / "copy.json")
    first, second = (preprocess_for(SPEC, {"tokenizer.json": p}) for p in (tokenizer, copy))
    assert first == second
    assert hash(first) == hash(second)
    copy.write_text(copy.read_text().replace("good", "okay"))
    assert TokenizerFile.of(copy) != TokenizerFile.of(tokenizer)


@given(st.integers(3, 9000))
def test_lengths_are_few_and_reach_the_longest(longest):
    lengths = length_buckets(longest)
    assert list(lengths) == sorted(set(lengths))
    assert lengths[-1] == longest
    assert len(lengths) <= 9 + longest // 64
    assert all(b - a <= 64 for a, b in zip((0, *lengths), lengths, strict=False))


def source_of(count):
    texts, names = sentences(count)
    return Source.of("text", texts, names)


@pytest.fixture(scope="module")
def model(tokenizer):
    return text_model(tokenizer, ("no", "yes"))


def test_a_pass_brings_texts_of_like_length_together_cut_to_few_lengths(model):
    source, pre = source_of(90), model.pipeline.preprocess
    batches = list(Loader(source, pre, 8, train=False).iterate())
    longest = [int(b["inputs"]["mask"].sum(1).max()) for b in batches]
    assert longest == sorted(longest)
    for batch, most in zip(batches, longest, strict=True):
        length = batch["inputs"]["ids"].shape[1]
        assert length == next(n for n in pre.lengths if n >= most)
        assert all(a.shape == (8, length) and a.flags.c_contiguous for a in batch["inputs"].values())
    seen = np.concatenate([b["example_index"][b["weight"] > 0] for b in batches])
    assert sorted(seen) == list(range(90))


def test_what_is_trained_on_and_what_is_predicted_with_are_equal_to_the_bit(model):
    source, pre = source_of(20), model.pipeline.preprocess
    rows = {}
    for train in (True, False):
        loader = Loader(source, pre, 4, train=train)
        for batch in loader.iterate(0, 5):
            for k, example in enumerate(batch["example_index"]):
                parts = {n: np.pad(a[k], (0, 40 - len(a[k]))) for n, a in batch["inputs"].items()}
                rows.setdefault(int(example), []).append(parts)
    assert sorted(rows) == list(range(20))
    for trained, predicted in rows.values():
        assert all(np.array_equal(trained[n], predicted[n]) for n in pre.row)


def test_a_text_kept_in_memory_or_read_anew_makes_the_same_batch(model):
    source, pre = source_of(12), model.pipeline.preprocess
    kept, anew = (list(Loader(source, pre, 5, memory_limit=limit).iterate(1, 3)) for limit in (2**30, 0))
    for a, b in zip(kept, anew, strict=True):
        assert all(np.array_equal(a["inputs"][n], b["inputs"][n]) for n in pre.row)


def test_features_come_in_the_datas_order_and_do_not_depend_on_what_else_is_in_a_batch(model):
    texts, _ = sentences(23, seed=1)
    features = model.features(texts, batch_size=8)
    assert features.shape == (23, 12)
    one_by_one = np.concatenate([model.features([t], batch_size=1) for t in texts[:4]])
    np.testing.assert_allclose(features[:4], one_by_one, rtol=2e-5, atol=2e-6)


def test_a_saved_model_takes_its_tokenizer_along(model, tmp_path):
    loaded = Model.load(model.save(tmp_path / "model"))
    assert loaded.card == model.card
    assert compiled(loaded.pipeline, 0, None) is compiled(model.pipeline, 0, None)
    texts, _ = sentences(5)
    assert np.array_equal(loaded.logits(texts), model.logits(texts))
    (tmp_path / "model" / "tokenizer.json").unlink()
    with pytest.raises(CardError, match=r"no tokenizer\.json beside it"):
        Model.load(tmp_path / "model").predict(texts)


def test_pictures_and_sound_are_refused_by_a_text_network(model):
    for modality in ("image", "audio", "array"):
        with pytest.raises(CardError, match="can only transfer to text"):
            model.predict(Source.of(modality, [np.zeros((4, 4))]))


@pytest.mark.parametrize("strategy", ["head", "full"])
def test_a_table_of_texts_is_learned(tokenizer, tmp_path, strategy):
    model = text_model(tokenizer, max_length=16)
    texts, names = sentences(24)
    rows = "".join(f'"{t}",{n}\n' for t, n in zip(texts, names, strict=True))
    (tmp_path / "train.csv").write_text(f"text,label\n{rows}")
    settings = {} if strategy == "head" else {"epochs": 8, "batch_size": 8, "learning_rate": 3e-3}
    result = flaxtl.finetune(model, tmp_path / "train.csv", strategy=strategy, **settings)
    new, wanted = sentences(40, seed=7)
    predictions = result.model.predict(new)
    assert np.mean([predictions.prediction(i) == name for i, name in enumerate(wanted)]) >= 0.9
