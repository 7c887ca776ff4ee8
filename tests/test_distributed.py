"""Several processes train as one: the same batches, the same model, and an end when one of them is lost."""

import json
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
import tiny_text

import flaxtl
from flaxtl import processes
from flaxtl.cli import main
from flaxtl.data import Source, from_arrays
from flaxtl.data.loader import Loader
from flaxtl.errors import ConfigError
from flaxtl.train.prefetch import prefetched

SCRIPTS = Path(__file__).parent.parent / "scripts"
SETTINGS = ["--statistics", "batch", "--ema", "0.9", "--validation", "0.25", "--save-every", "4", "--shift", "0.1"]
FINETUNE = ["--strategy", "full", "--epochs", "4", "--batch-size", "4", "--learning-rate", "0.02", *SETTINGS]


def script(name, *words, timeout=600):
    return subprocess.run(
        [sys.executable, str(SCRIPTS / name), *map(str, words)], capture_output=True, text=True, timeout=timeout
    )


# Each process reads its own rows


def joined(parts):
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("memory_limit", [2**30, 0])
def test_the_processes_rows_together_are_the_batch_of_one(count, memory_limit):
    preprocess = tiny.model().pipeline.preprocess
    settings = {"seed": 3, "rows": 6, "memory_limit": memory_limit}
    whole = Loader(tiny.source(), preprocess, 5, **settings)
    parts = [Loader(tiny.source(), preprocess, 5, share=(i, count), **settings) for i in range(count)]
    for batch, *shares in zip(whole.iterate(0, 4), *(part.iterate(0, 4) for part in parts)):
        assert tiny.same(joined(shares), batch)
        assert len(batch["weight"]) == 6
        assert all(len(share["weight"]) == 6 // count for share in shares)


def test_texts_are_cut_to_the_longest_of_all_processes(tmp_path):
    model = tiny_text.text_model(tiny_text.write_tokenizer(tmp_path), ("no", "yes"))
    texts, names = tiny_text.sentences(12)
    source, preprocess = Source.of("text", texts, names), model.pipeline.preprocess
    whole = Loader(source, preprocess, 4)
    parts = [Loader(source, preprocess, 4, share=(i, 2)) for i in range(2)]
    for batch, *shares in zip(whole.iterate(0, 6), *(part.iterate(0, 6) for part in parts)):
        assert tiny.same(joined(shares), batch)


def test_a_process_reads_no_rows_of_others():
    read = []

    class Watched:
        def __len__(self):
            return 12

        def __getitem__(self, i):
            read.append(i)
            return np.zeros((8, 8), np.uint8)

    source = from_arrays(np.zeros((12, 8, 8), np.uint8), np.arange(12) % 3)
    object.__setattr__(source, "raw", Watched())
    loader = Loader(source, tiny.model().pipeline.preprocess, 6, share=(1, 2), memory_limit=0)
    batch = loader.batch(0)
    assert sorted(read) == sorted(batch["example_index"].tolist())
    assert len(read) == 3


def test_a_batch_that_cannot_be_shared_evenly_is_refused():
    loader = Loader(tiny.source(), tiny.model().pipeline.preprocess, 5, share=(0, 2))
    with pytest.raises(ConfigError, match="5 rows cannot be shared evenly by 2 processes"):
        loader.batch(0)


# Batches ahead


def test_what_is_taken_ahead_comes_in_order_and_its_errors_in_their_turn():
    def items():
        yield from range(3)
        raise OSError("gone")

    ready = prefetched(items())
    assert [next(ready) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="gone"):
        next(ready)


def test_no_more_is_taken_ahead_than_said_and_nothing_after_the_end():
    taken = []

    def items():
        for i in range(100):
            taken.append(i)
            yield i

    ready = prefetched(items(), ahead=2)
    assert next(ready) == 0
    time.sleep(0.3)
    assert len(taken) <= 4  # one handed out, two that wait, one in the hand
    ready.close()
    seen = len(taken)
    time.sleep(0.3)
    assert len(taken) == seen


# Settings


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ((None, 2, None), "need `coordinator"),
        (("host:1", None, None), "needs `processes`"),
        (("host:1", 2, 2), "found 2 and 2"),
        (("host:1", 2, 0, 0.0), "`peer_timeout` is 0"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence), processes.connected(*settings):
        pass


# Supervision, of commands that cost nothing


def supervised(code, *own):
    return script("supervise.py", "0", *own, "--", sys.executable, "-c", code)


def test_a_lost_process_is_started_again_with_resume(tmp_path):
    code = f"""
import sys, os
file = {str(tmp_path / "words")!r}
with open(file, "a") as words: words.write(" ".join(sys.argv[1:]) + "|")
sys.exit(0 if open(file).read().count("|") == 3 else 75)
"""
    done = supervised(code)
    assert done.returncode == 0
    assert (tmp_path / "words").read_text() == "|--resume|--resume|"
    assert done.stderr.count("ended with code 75") == 2


def test_what_a_person_must_mend_is_not_tried_again():
    done = supervised("import sys; print('once'); sys.exit(2)")
    assert (done.returncode, done.stdout) == (2, "once\n")


def test_supervision_gives_up_after_so_many_restarts():
    done = supervised("import os; os.kill(os.getpid(), 9)", "--restarts", "1")
    assert done.returncode == 128 + 9
    assert "started 2 times and is given up" in done.stderr


@pytest.mark.slow
def test_when_one_process_ends_badly_the_others_are_ended():
    code = "import sys, time; sys.exit(3) if sys.argv[-1] == '1' else time.sleep(60)"
    began = time.monotonic()
    done = script("launch_local.py", "2", "--", sys.executable, "-c", code)
    assert done.returncode == 3
    assert time.monotonic() - began < 30


# Whole runs


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("distributed")
    tiny.model().save(place / "base")
    tiny.folder(place / "data")
    assert main(["finetune", *words(place, "one")]) == 0
    return place


def words(place, out, *more):
    given = [place / "data", "--from", place / "base", "--out", place / out, "--cache", "off", *FINETUNE, *more]
    return [str(word) for word in given]


def metrics_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "devices", "parallel"), [(2, 2, "jit"), (2, 4, "fsdp"), (4, 1, "fsdp"), (2, 2, "pmap")]
)
def test_several_processes_equal_one(place, count, devices, parallel):
    out = f"{parallel}_{count}x{devices}"
    command = [sys.executable, SCRIPTS / "finetune.py"]
    more = ["--parallel", parallel, "--peer-timeout", "120"]
    done = script("launch_local.py", count, "--devices", devices, "--", *command, *words(place, out, *more), "--json")
    assert done.returncode == 0, done.stderr
    # Gloo writes lines of its own, at times torn into each other; what is left of them may come first.
    assert json.loads(done.stdout[done.stdout.index("{") :])["strategy"] == "full", "only the first process talks"
    a, b = flaxtl.load(place / out), flaxtl.load(place / "one")
    close = jax.tree.map(lambda x, y: bool(np.allclose(x, y, rtol=1e-4, atol=1e-5)), a.variables, b.variables)
    assert jax.tree.all(close)
    for found, expected in zip(metrics_of(place / out), metrics_of(place / "one"), strict=True):
        assert found["step"] == expected["step"]
        if "loss" in expected:
            assert np.isclose(found["loss"], expected["loss"], rtol=1e-5)


# The second process's clock jumps ahead while strategies are tried.
RUNAWAY = """
import itertools, sys
from flaxtl.cli import main
from flaxtl.strategies import auto
from flaxtl.strategies.clock import Clock
auto.CEILING = 2.0  # so that there is something to gain
if sys.argv[-1] == "1":
    looks = itertools.count()
    Clock.spent = property(lambda self: 1e6 * (next(looks) > 7))
sys.exit(main(["finetune", *sys.argv[1:]]))
"""


@pytest.mark.slow
def test_processes_whose_clocks_differ_search_alike(place):
    """Were each to go by its own clock, one would go on to a strategy that the other leaves out, and wait in vain."""
    given = words(place, "auto", "--strategy", "auto", "--budget", "10m", "--json", "--peer-timeout", "60")
    del given[given.index("--validation") : given.index("--validation") + 2]
    command = [sys.executable, "-c", RUNAWAY]
    done = script("launch_local.py", 2, "--devices", 2, "--", *command, *given)
    assert done.returncode == 0, done.stderr
    evidence = json.loads(done.stdout[done.stdout.index("{") :])["evidence"][0]
    assert evidence["kind"] == "auto"
    assert any("left" in row["note"] for row in evidence["candidates"])
    assert flaxtl.load(place / "auto").card.head.labels == tiny.LABELS


@pytest.mark.torture
def test_no_accident_costs_anything(place):
    command = [sys.executable, SCRIPTS / "finetune.py"]
    given = words(place, "unused", "--epochs", "30")
    del given[given.index("--out") : given.index("--out") + 2]
    own = ["--times", "3", "--peer-timeout", "20", "--out", place / "torture"]
    done = script("torture.py", *own, "--", *command, *given, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing was lost in 9 accidents" in done.stdout
