"""The batch of step s depends on the seed and s alone, in memory and through grain; padding weighs nothing."""

import dataclasses
import itertools

import numpy as np
import pytest
from PIL import Image as pillow

from flaxtl.card import Array, Image
from flaxtl.data import Augment, Loader, Source, from_arrays, from_folder
from flaxtl.data.preprocess import preprocess_for
from flaxtl.data.rows import Form

PREPROCESS = preprocess_for(Image((8, 8), 1))
CHANGES = Augment(flip=True, degrees=10.0, noise=0.1)
CROPS = Augment(flip=True, crop_scale=(0.3, 1.0), brightness=0.2)


def source(n=10):
    """Pictures of which no two are alike."""
    values = np.random.default_rng(0).integers(0, 256, (n, 8, 8)).astype(np.uint8)
    return from_arrays(values, [i % 3 for i in range(n)], weights=np.arange(1, n + 1))


def loader(n=10, batch_size=4, **more):
    return Loader(source(n), PREPROCESS, batch_size, **{"seed": 3, **more})


def same(a, b):
    return all(np.array_equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a | b)


def real(batches):
    return np.concatenate([b["example_index"][b["weight"] > 0] for b in batches])


@pytest.mark.parametrize(("n", "batch_size"), [(10, 4), (8, 4), (3, 8), (1, 1)])
def test_an_epoch_sees_each_example_once_and_pads_with_weight_zero(n, batch_size):
    made = loader(n, batch_size)
    epochs = [list(made.iterate(e * made.batches_per_epoch, made.batches_per_epoch)) for e in range(3)]
    for batches in epochs:
        assert len(batches) == -(-n // batch_size)
        assert sorted(real(batches)) == list(range(n))
        for batch in batches:
            filled = batch["weight"] > 0
            assert batch["inputs"].shape == (batch_size, 8, 8, 1)
            assert [batch[k].dtype for k in ("inputs", "target", "weight", "example_index")] == [
                np.uint8,
                np.int32,
                np.float32,
                np.int32,
            ]
            assert np.array_equal(batch["target"], batch["example_index"] % 3)
            assert np.array_equal(batch["weight"][filled], batch["example_index"][filled] + 1)  # the source's weights
            assert filled.sum() == batch_size or batch is batches[-1]
            rows = made.source.raw[batch["example_index"]][..., None]
            assert np.array_equal(batch["inputs"], rows)
    if n > 3:
        assert not np.array_equal(real(epochs[0]), real(epochs[1]))


@pytest.mark.parametrize("augment", [None, CHANGES, CROPS])
@pytest.mark.parametrize("memory_limit", [2**20, 0])
def test_resuming_is_exact(augment, memory_limit):
    whole = list(loader(augment=augment, memory_limit=memory_limit).iterate(0, 9))
    for start in (1, 5, 8):
        resumed = list(loader(augment=augment, memory_limit=memory_limit).iterate(start, 9 - start))
        assert len(resumed) == 9 - start
        assert all(same(a, b) for a, b in zip(whole[start:], resumed, strict=True))


@pytest.mark.parametrize("augment", [None, Augment(), CHANGES])
def test_memory_and_grain_give_the_same_batches(augment):
    kept, read = loader(augment=augment), loader(augment=augment, memory_limit=0)
    assert kept.in_memory
    assert not read.in_memory
    pairs = zip(kept.iterate(2, 7), read.iterate(2, 7), strict=True)
    assert all(same(a, b) for a, b in pairs)
    assert list(kept.iterate(2, 0)) == list(read.iterate(2, 0)) == []
    endless = itertools.islice(zip(kept.iterate(), read.iterate(), strict=True), 4)
    assert all(same(a, b) for a, b in endless)


def test_a_random_crop_is_taken_from_the_whole_picture():
    assert not loader(augment=CROPS).in_memory


def test_the_seed_draws_order_and_changes():
    batches = {seed: loader(seed=seed, augment=CHANGES).batch(0) for seed in (1, 2)}
    assert not np.array_equal(batches[1]["example_index"], batches[2]["example_index"])
    assert same(batches[1], loader(seed=1, augment=CHANGES).batch(0))


def test_an_example_is_changed_anew_each_epoch():
    made = loader(n=4, augment=CHANGES)
    first, second = (dict(zip(b["example_index"], b["inputs"])) for b in made.iterate(0, 2))
    assert all(not np.array_equal(first[i], second[i]) for i in range(4))


def test_the_number_of_threads_changes_nothing():
    one, four = (loader(augment=CROPS, threads=t) for t in (1, 4))
    assert all(same(a, b) for a, b in zip(one.iterate(0, 6), four.iterate(0, 6), strict=True))


@pytest.mark.parametrize("memory_limit", [2**20, 0])
def test_buffers_are_never_used_again(memory_limit):
    made = loader(batch_size=10, memory_limit=memory_limit)
    batches = list(made.iterate(0, 2))
    before = made.batch(1)
    batches[0]["inputs"][:] = 0
    assert same(batches[1], before)
    assert same(made.batch(1), before)


def test_a_pass_is_in_order_once_and_unchanged():
    made = loader(train=False, augment=CHANGES)
    batches = list(made.iterate())
    assert real(batches).tolist() == list(range(10))
    assert [b["weight"].tolist() for b in batches] == [[1.0] * 4, [1.0] * 4, [1.0, 1.0, 0.0, 0.0]]
    rows = np.concatenate([b["inputs"] for b in batches])[:10, ..., 0]
    assert np.array_equal(rows, made.source.raw)
    assert all(same(a, b) for a, b in zip(made.iterate(1, 1), batches[1:2], strict=True))


def test_the_unlabelled_pass_through():
    made = Loader(from_arrays(np.zeros((3, 8, 8))), PREPROCESS, 2, train=False)
    assert [b["target"].tolist() for b in made.iterate()] == [[-1, -1], [-1, -1]]


def test_files_larger_and_smaller_than_the_card_asks(tmp_path):
    for number, size in enumerate([(5, 9), (30, 20), (8, 8), (64, 64)]):
        file = tmp_path / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(exist_ok=True)
        pillow.new("RGB", size, (number, 0, 0)).save(file)
    made = Loader(from_folder(tmp_path), preprocess_for(Image((8, 8), 3)), 4, train=False)
    [batch] = made.iterate()
    assert batch["inputs"].shape == (4, 8, 8, 3)
    assert batch["inputs"][:, 4, 4, 0].tolist() == [0, 2, 1, 3]
    assert batch["target"].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("shape", [(), (3,), (4, 4)])
@pytest.mark.parametrize("memory_limit", [2**20, 0])
def test_plain_numbers_are_never_augmented(shape, memory_limit):
    values = np.random.default_rng(0).normal(size=(5, *shape)).astype(np.float32)
    numbers = from_arrays(values, list("aabbb"), modality="array")
    made = Loader(numbers, preprocess_for(Array(shape)), 5, augment=CHANGES, memory_limit=memory_limit)
    [batch] = made.iterate(0, 1)
    assert np.array_equal(batch["inputs"], values[batch["example_index"]])


@dataclasses.dataclass(frozen=True)
class Windows:
    """As many rows as an example says, each [example, number]."""

    row = Form((2,), np.dtype(np.int64))
    lengths = ()

    def rows(self, raw, rng=None, augment=None):
        return [np.array([raw, number]) for number in range(raw)]

    def augmented(self, row, rng, augment):
        return row


WINDOWS = Source.of("array", [1, 4, 2], ["a", "b", "a"])


def test_a_pass_has_all_rows_of_an_example():
    batches = list(Loader(WINDOWS, Windows(), 3, train=False).iterate())
    assert real(batches).tolist() == [0, 1, 1, 1, 1, 2, 2]
    rows = np.concatenate([b["inputs"] for b in batches])[:7]
    assert rows.tolist() == [[1, 0], [4, 0], [4, 1], [4, 2], [4, 3], [2, 0], [2, 1]]


def test_training_draws_one_row_of_an_example_from_all_of_them():
    kept, read = (Loader(WINDOWS, Windows(), 3, memory_limit=m) for m in (2**20, 0))
    batches = list(kept.iterate(0, 40))
    assert all(same(a, b) for a, b in zip(batches, read.iterate(0, 40), strict=True))
    drawn = {tuple(row) for b in batches for row in b["inputs"].tolist()}
    assert drawn == {(1, 0), (4, 0), (4, 1), (4, 2), (4, 3), (2, 0), (2, 1)}
    assert all(sorted(b["example_index"]) == [0, 1, 2] for b in batches)
