"""Activations are computed once for each content, found again, and never taken for others'."""

import dataclasses
import os
import shutil
import subprocess
import sys
import time
import zipfile

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import tiny
import tiny_text
from PIL import Image as pillow

from flaxtl import surgery
from flaxtl.activations import Store, compute, enter, identity
from flaxtl.activations.computing import form_at
from flaxtl.activations.identity import View, content_digest, example_digests, shelf_of
from flaxtl.activations.store import RowForm
from flaxtl.config import Augmentation, Training
from flaxtl.data import Augment, Source, from_arrays, from_files, from_folder, open_source
from flaxtl.errors import ConfigError, DataError
from flaxtl.model import Model
from flaxtl.strategies.borders import segment_named
from flaxtl.strategies.executor import execute
from flaxtl.strategies.phases import Phase
from flaxtl.strategies.work import Work


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def counted(monkeypatch):
    """Counts how many examples the network is run on."""
    seen = []
    stream = Model.stream

    def watched(self, entry, **settings):
        seen.append(len(entry))
        return stream(self, entry, **settings)

    monkeypatch.setattr(Model, "stream", watched)
    return seen


def _values(rows):
    return np.stack([several[0] for several in rows])


def test_what_is_kept_is_what_the_network_says(store):
    model, source = tiny.model(), tiny.source()
    for stop in range(1, model.network.border + 1):
        direct, _ = model.outputs(source, stop=stop)
        np.testing.assert_array_equal(_values(compute(model, source, stop, store)), direct)
        np.testing.assert_array_equal(_values(compute(model, source, stop, store)), direct)


def test_the_second_time_nothing_is_computed(store, counted):
    model, source = tiny.model(), tiny.source()
    compute(model, source, 2, store)
    compute(model, source, 2, store)
    compute(model, source.subset(range(3)), 2, Store(store.folder))
    assert counted == [len(source)]


def test_six_hundred_features_open_in_milliseconds(store):
    form = RowForm((), ((1280,),), ("float32",), False)
    texts = [str(i) for i in range(600)]
    digests = example_digests(texts, "text")
    store.add("shelf", form, [(d, [np.zeros(1280, np.float32)], 0) for d in digests])
    began = time.perf_counter()
    found = Store(store.folder).find("shelf", digests)
    seconds = time.perf_counter() - began
    assert all(len(rows) == 1 for rows in found)
    assert seconds < 1.0  # some 10 ms on a machine that does nothing else


def test_equal_contents_are_computed_once(store, counted):
    pictures, _ = tiny.pictures()
    source = from_arrays(np.concatenate([pictures, pictures[:5]]))
    rows = _values(compute(tiny.model(), source, 2, store))
    assert counted == [len(pictures)]
    np.testing.assert_array_equal(rows[-5:], rows[:5])


def test_a_changed_file_is_computed_anew_and_no_other(store, counted, tmp_path):
    folder = tiny.folder(tmp_path / "photos")
    model = tiny.model()
    before = _values(compute(model, from_folder(folder), 2, store))
    file = next(iter(sorted(folder.rglob("*.png"))))
    pillow.fromarray(np.full((8, 8), 7, np.uint8)).save(file)
    source = from_folder(folder)
    after = _values(compute(model, source, 2, store))
    assert counted == [len(source), 1]
    differs = [key for key, a, b in zip(source.keys, before, after, strict=True) if not np.array_equal(a, b)]
    assert [key.endswith(file.name) for key in differs] == [True]


def test_a_file_that_was_only_touched_or_moved_is_not(store, counted, tmp_path):
    folder = tiny.folder(tmp_path / "photos")
    compute(tiny.model(), from_folder(folder), 2, store)
    for file in folder.rglob("*.png"):
        file.touch()
    folder.rename(tmp_path / "elsewhere")
    compute(tiny.model(), from_folder(tmp_path / "elsewhere"), 2, store)
    assert len(counted) == 1


def test_parameters_before_the_border_decide_and_those_behind_it_do_not():
    model = tiny.model()
    changed = {}
    for name in ("backbone/stem", "backbone/blocks_0", "head"):
        params = surgery.graft(model.params, name, _plus_one(model.params, name))
        changed[name] = [shelf_of(model.with_variables({**model.variables, "params": params}), k) for k in (1, 2, 3, 4)]
    here = [shelf_of(model, k) for k in (1, 2, 3, 4)]
    assert [a == b for a, b in zip(changed["backbone/stem"], here, strict=True)] == [False] * 4
    assert [a == b for a, b in zip(changed["backbone/blocks_0"], here, strict=True)] == [True, False, False, False]
    assert [a == b for a, b in zip(changed["head"], here, strict=True)] == [True, True, True, False]


def _plus_one(params, name):
    part = params
    for key in name.split("/"):
        part = part[key]
    import jax

    return jax.tree.map(lambda a: a + 1, part)


def test_statistics_and_the_card_decide():
    model = tiny.model()
    stats = _plus_one(model.variables, "batch_stats")
    other = model.with_variables({**model.variables, "batch_stats": stats})
    scaled = tiny.with_card(model, input=dataclasses.replace(model.card.input, mean=(0.25,)))
    viewed = shelf_of(model, 2, View(1, Augment(flip=True)))
    assert len({shelf_of(model, 2), shelf_of(other, 2), shelf_of(scaled, 2), viewed}) == 4


def test_texts_are_kept_as_long_as_they_are(store, tmp_path):
    model = tiny_text.text_model(tiny_text.write_tokenizer(tmp_path), ("no", "yes"))
    texts, names = tiny_text.sentences(30)
    source = Source.of("text", texts, names)
    direct = model.logits(source)
    for start in range(1, model.network.border + 1):
        entry = enter(model, source, start, store)
        np.testing.assert_allclose(model.logits(entry), direct, atol=1e-5)
    full = form_at(model, 1)[0].nbytes(40) * len(texts)
    assert (store.folder / f"{shelf_of(model, 1)}.bin").stat().st_size < full / 1.5


def test_views_add_rows_that_depend_on_the_content_alone(store):
    model, source = tiny.model(), tiny.source()
    views = [View(i, Augment(shift=0.3, noise=0.1), seed=3) for i in (1, 2)]
    entry = enter(model, source, 2, store, views=views)
    assert [len(rows) for rows in entry.source.raw] == [3] * len(source)
    plain = _values(compute(model, source, 2, store))
    np.testing.assert_array_equal(_values(entry.source.raw), plain)
    assert not np.array_equal(entry.source.raw[0][1], entry.source.raw[0][2])
    turned = source.subset(range(len(source) - 1, -1, -1))
    again = enter(model, turned, 2, None, views=views)
    np.testing.assert_array_equal(again.source.raw[-1][2], entry.source.raw[0][2])


@pytest.mark.parametrize("start", ["blocks_0", "pool"])
def test_a_cut_equals_freezing_without_a_cache(start, store):
    model, source = tiny.model().with_head(tiny.LABELS), tiny.source()
    training = Training(epochs=5, batch_size=5)
    cut = Phase("train", start=start, training=training)
    above = model.network.segments[segment_named(model.network, start) : -1]
    whole = Phase(
        "train", trainable=tuple(f"backbone/{name}/**" for name in above if name != "pool"), training=training
    )
    results = [
        execute(Work(source, source, store=kept), model, (phase,)) for phase, kept in ((cut, store), (whole, None))
    ]
    assert tiny.changed(model.variables, results[0].variables) == tiny.changed(model.variables, results[1].variables)
    assert any("head" in name for name in tiny.changed(model.variables, results[0].variables))
    np.testing.assert_allclose(results[0].logits(source), results[1].logits(source), atol=1e-5)


@pytest.mark.slow
def test_a_cut_of_a_text_network_equals_freezing_without_a_cache(tmp_path):
    model = tiny_text.text_model(tiny_text.write_tokenizer(tmp_path), ("no", "yes"))
    texts, names = tiny_text.sentences(20)
    source = Source.of("text", texts, names)
    training = Training(epochs=3, batch_size=6)
    cut = Phase("train", start="blocks_1", training=training)
    whole = Phase("train", trainable=("backbone/blocks_1/**",), training=training)
    results = [execute(Work(source), model, (phase,)) for phase in (cut, whole)]
    np.testing.assert_allclose(results[0].logits(source), results[1].logits(source), atol=1e-5)


def test_a_view_is_drawn_an_epoch():
    model, source = tiny.model().with_head(tiny.LABELS), tiny.source()
    phase = Phase("train", start="blocks_0", views=2, training=Training(epochs=4), augment=Augmentation(noise=0.2))
    plain = dataclasses.replace(phase, views=0)
    with_views, without = (execute(Work(source), model, (p,)) for p in (phase, plain))
    assert not np.array_equal(with_views.logits(source), without.logits(source))


def test_a_killed_pass_goes_on_where_it_stopped(tmp_path, counted, monkeypatch):
    monkeypatch.setattr("flaxtl.activations.computing._chunk", lambda form, batch: 4)
    model, source = tiny.model(), tiny.source()
    place = tmp_path / "store"

    def stop(done):
        if done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute(model, source, 2, Store(place), report=stop)
    rows = compute(model, source, 2, Store(place))
    assert counted == [4, 4, 4]
    np.testing.assert_array_equal(_values(rows), model.outputs(source, stop=2)[0])


def test_what_a_killed_process_wrote_is_whole(tmp_path):
    """A process is killed while it keeps activations; whatever the index says is there is there."""
    code = (
        "import numpy as np, sys, itertools\n"
        "from flaxtl.activations.store import RowForm, Store\n"
        "store = Store(sys.argv[1])\n"
        "form = RowForm((), ((64,),), ('float32',), False)\n"
        "for n in itertools.count():\n"
        "    store.add('s', form, [(n.to_bytes(32, 'big'), [np.full(64, n, np.float32)], 0)])\n"
        "    print(n, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if int(line) >= 20:
            process.kill()
            break
    process.wait()
    process.stdout.close()
    found = Store(tmp_path).find("s", [n.to_bytes(32, "big") for n in range(21)])
    for n, rows in enumerate(found):
        np.testing.assert_array_equal(rows[0], np.full(64, n, np.float32))


def test_a_file_that_lost_its_end_is_computed_again(store, counted):
    model, source = tiny.model(), tiny.source()
    whole = _values(compute(model, source, 2, store))
    file = store.folder / f"{shelf_of(model, 2)}.bin"
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size - 10)
    np.testing.assert_array_equal(_values(compute(model, source, 2, store)), whole)
    assert counted == [len(source), 1]


def test_the_limit_drops_what_was_not_used_for_longest(tmp_path):
    model, source = tiny.model(), tiny.source()
    size = 4 * 8 * len(source)
    store = Store(tmp_path, limit=2.5 * size)
    names = []
    for mean in (0.1, 0.2, 0.3):
        other = tiny.with_card(model, input=dataclasses.replace(model.card.input, mean=(mean,)))
        compute(other, source, 3, store)
        names.append(shelf_of(other, 3))
    left = sorted(file.stem for file in tmp_path.glob("*.bin"))
    assert left == sorted(names[1:])


def test_a_users_own_module_is_not_kept_beyond_the_run(store):
    from flax import linen as nn

    from flaxtl.card import Array, Card, Head, NetworkSpec
    from flaxtl.nets.adapt import LinenModule

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2, name="top")(nn.relu(nn.Dense(3, name="body")(x)))

    network = LinenModule(Net(), head="top")
    card = Card(Array((4,)), NetworkSpec("custom", {}), (Head(path="top", labels=("a", "b")),))
    model = Model(network, network.init(0, np.zeros((1, 4), np.float32)), card)
    source = from_arrays(np.eye(4, dtype=np.float32), modality="array")
    rows = _values(compute(model, source, 1, store))
    np.testing.assert_array_equal(rows, model.features(source))
    assert not list(store.folder.glob("*.bin"))


def test_contents_are_told_apart():
    black, white = (pillow.new("P", (2, 2)) for _ in range(2))
    black.putpalette([0, 0, 0]), white.putpalette([255, 255, 255])
    objects = [np.array(["a", other], object) for other in ("b", "c")]
    kinds = ["a", b"a", ("a", "b"), ("ab",), np.array([97], np.uint8), np.array([97], np.int8), 97]
    kinds += [black, white, *objects]
    assert len({content_digest(kind) for kind in kinds}) == len(kinds)
    assert content_digest(object()) is None


def test_a_place_that_cannot_be_used_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="`cache='off'`"):
        Store(tmp_path / "file")


@pytest.mark.parametrize("name", ["blocks_9", "1.5", "half"])
def test_an_unknown_border_is_a_sentence(name):
    with pytest.raises(ConfigError, match="Its parts are stem, blocks_0, pool, head"):
        segment_named(tiny.model().network, name)


# Other content under the same name, size and time


def stripes(place, *, down, make=None):
    """Writes pictures without compression, so that other content has the same size, and sets their time to 0."""
    for number in range(4):
        grid = np.full((8, 8), 255, np.uint8)
        grid[number % 3 :: 3] = 0
        file = place / f"{number}.bmp"
        file.parent.mkdir(parents=True, exist_ok=True)
        pillow.fromarray(np.ascontiguousarray(grid.T if down else grid)).save(file)
        os.utime(file, (0, 0))
    return place


def packed(place, *, down):
    """The same in a zip archive of fixed size and time."""
    stripes(place / "made", down=down)
    with zipfile.ZipFile(place / "set.zip", "w") as archive:
        for file in sorted((place / "made").iterdir()):
            archive.writestr(zipfile.ZipInfo(f"stripes/{file.name}"), file.read_bytes())
    shutil.rmtree(place / "made")
    os.utime(place / "set.zip", (0, 0))
    return place


def tabled(place, *, down):
    """A column of Parquet that names files and does not hold them."""
    stripes(place, down=down)
    names = [{"bytes": None, "path": f"{number}.bmp"} for number in range(4)]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    table = pyarrow.table({"image": pyarrow.array(names, kind), "label": list("abab")})
    pyarrow.parquet.write_table(table, place / "t.parquet")
    os.utime(place / "t.parquet", (0, 0))
    return place / "t.parquet"


@pytest.mark.parametrize("write", [stripes, packed, tabled])
def test_swapped_files_of_the_same_size_and_time_are_computed_anew(write, store, tmp_path):
    model, found = tiny.model(), []
    for down in (False, True):
        place = write(tmp_path / "set", down=down)
        source = open_source(place) if write is tabled else from_files(place)
        found.append(_values(compute(model, source, 2, store)))
        np.testing.assert_array_equal(found[-1], _values(compute(model, source, 2, None)))
    assert not np.array_equal(found[0], found[1])


def test_a_file_is_hashed_once_in_a_process_while_it_stays_the_same(tmp_path, monkeypatch):
    [file, *_] = sorted(stripes(tmp_path, down=False).iterdir())
    monkeypatch.setattr(identity, "_SETTLED_NS", -(1 << 62))  # as if the file had lain here for long
    first = content_digest(file, "image")
    monkeypatch.setattr(identity.hashlib, "sha256", None)
    assert content_digest(file, "image") == first
    monkeypatch.undo()
    assert first == content_digest(file.read_bytes())
    stripes(tmp_path, down=True)
    assert content_digest(str(file), "image") == content_digest(file.read_bytes()) != first


def test_a_run_s_fingerprint_holds_the_contents_of_files(tmp_path):
    prints = []
    for down in (False, True):
        for name in ("a", "b"):
            stripes(tmp_path / name, down=down)
        prints.append(Work(from_folder(tmp_path)).fingerprint())
    assert prints[0] != prints[1]
