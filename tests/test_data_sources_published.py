"""Sets of tensorflow-datasets and Hugging Face datasets, and Parquet files: by name, without TensorFlow or network."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tiny
from PIL import Image as pillow

import flaxtl
from flaxtl.data import Splits, from_parquet, open_source
from flaxtl.data.audio import decode as decode_sound
from flaxtl.data.image import decode
from flaxtl.errors import DataError

pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow")
from pyarrow import parquet  # noqa: E402


def png(value):
    data = io.BytesIO()
    pillow.fromarray(np.full((4, 5, 3), value, np.uint8)).save(data, "PNG")
    return data.getvalue()


def wav(samples, rate=8000):
    soundfile = pytest.importorskip("soundfile", reason="needs the [audio] extra")
    data = io.BytesIO()
    soundfile.write(data, np.asarray(samples, np.float32), rate, format="WAV")
    return data.getvalue()


# tensorflow-datasets

BUILDER = """
import io, sys
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

class TinySet(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
        features = tfds.features.FeaturesDict({
            'image': tfds.features.Image(shape=(None, None, 3), encoding_format='png'),
            'label': tfds.features.ClassLabel(names=['dog', 'cat']),
            'text': tfds.features.Text(),
            'speaker': tfds.features.Text(),
            'tags': tfds.features.Sequence(tfds.features.ClassLabel(names=['big', 'red', 'old'])),
            'score': np.float32,
            'sound': tfds.features.Tensor(shape=(None,), dtype=np.int64),
        })
        return tfds.core.DatasetInfo(builder=self, supervised_keys=('image', 'label'), features=features)

    def _split_generators(self, manager):
        return {'train': self._generate_examples(6), 'validation': self._generate_examples(2),
                'test': self._generate_examples(4)}

    def _generate_examples(self, count):
        for i in range(count):
            data = io.BytesIO()
            Image.fromarray(np.full((4, 5, 3), 10 * i, np.uint8)).save(data, 'PNG')
            data.seek(0)
            yield f'{count}-{i}', {'image': data, 'label': i % 2, 'text': f'h\\u00e9llo {i}', 'speaker': f's{i // 2}',
                     'tags': list(range(i % 3)), 'score': i / 2, 'sound': np.full(5 + i, 16384)}

for form in ('array_record', 'parquet'):
    TinySet(data_dir=f'{sys.argv[1]}/{form}', file_format=form).download_and_prepare()
assert 'tensorflow' not in sys.modules
"""


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """A set as array_record and as Parquet; built in a process of its own, whose warnings are tensorflow-datasets'."""
    place = tmp_path_factory.mktemp("tfds")
    done = subprocess.run([sys.executable, "-c", BUILDER, str(place)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture(params=["array_record", "parquet"])
def tiny_set(request, sets, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(sets / request.param))
    return sets / request.param / "tiny_set" / "1.0.0"


def test_a_set_by_name_with_its_splits_and_class_names(tiny_set):
    found = open_source("tfds:tiny_set")
    assert isinstance(found, Splits)
    assert {name: len(part) for name, part in found.parts.items()} == {"train": 6, "validation": 2, "test": 4}
    assert found.train.labels == ("dog", "cat")
    assert found.test.modality == "image"
    pictures = {int(decode(example.raw)[0, 0, 0]): example.target for example in found.train}
    assert pictures == {0: 0, 10: 1, 20: 0, 30: 1, 40: 0, 50: 1}
    assert decode(found.test.raw[0]).shape == (4, 5, 3)


@pytest.mark.parametrize("name", ["tiny_set:1.0.0", "DIRECTORY"])
def test_a_version_or_its_directory(name, tiny_set):
    name = str(tiny_set) if name == "DIRECTORY" else name
    assert len(open_source(f"tfds:{name}", split="test")) == 4


def test_slices_and_parts_are_chosen(tiny_set):
    found = open_source("tfds:tiny_set", split="train=train[:50%],test=validation+test")
    assert {name: len(part) for name, part in found.parts.items()} == {"train": 3, "test": 6}


def test_text_groups_several_labels_and_numbers_of_a_set(tiny_set):
    texts = open_source("tfds:tiny_set", split="train", input_column="text", group_by="speaker")
    assert texts.modality == "text"
    assert sorted(texts.raw) == [f"héllo {i}" for i in range(6)]
    assert {(t, g) for t, g in zip(texts.raw, texts.groups, strict=True)} >= {("héllo 0", "s0"), ("héllo 5", "s2")}
    tags = open_source("tfds:tiny_set", split="train", input_column="text", label_column="tags", task="multilabel")
    assert tags.labels == ("big", "red", "old")
    assert dict(zip(tags.raw, tags.targets.tolist(), strict=True))["héllo 5"] == [1.0, 1.0, 0.0]
    scores = open_source("tfds:tiny_set", split="train", label_column="score", task="regression")
    assert sorted(scores.targets[:, 0].tolist()) == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]


def test_sound_of_a_set_needs_no_tensorflow(tiny_set, tmp_path, monkeypatch):
    """What is on disk for tfds.features.Audio is what a tensor of integers is; only features.json tells them apart."""
    folder = tmp_path / "tiny_set" / "1.0.0"
    folder.mkdir(parents=True)
    for file in tiny_set.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    features = json.loads((folder / "features.json").read_text())
    features["featuresDict"]["features"]["sound"] = {
        "pythonClassName": "tensorflow_datasets.core.features.audio_feature.Audio",
        "audio": {"shape": {"dimensions": ["-1"]}, "dtype": "int64", "sampleRate": "8000", "encoding": "none"},
    }
    (folder / "features.json").write_text(json.dumps(features))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    found = open_source("tfds:tiny_set", split="test", input_column="sound")
    assert found.modality == "audio"
    clips = [decode_sound(raw) for raw in found.raw]
    assert {clip.sample_rate for clip in clips} == {8000}
    assert sorted(len(clip.samples) for clip in clips) == [5, 6, 7, 8]
    assert clips[0].samples[0].tolist() == [0.5]


def test_finetuning_on_a_set_by_name_where_tensorflow_cannot_be_imported(tiny_set, tmp_path):
    tiny.model().save(tmp_path / "base")
    (tmp_path / "absent").mkdir()
    (tmp_path / "absent" / "tensorflow.py").write_text("raise ImportError('TensorFlow is not to be imported')")
    code = "import sys; from flaxtl.cli import main; sys.exit(main(sys.argv[1:]))"
    words = ["-c", code, *f"finetune tfds:tiny_set --from {tmp_path}/base --out {tmp_path}/run --json".split()]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "absent")}
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["classes"] == ["dog", "cat"]
    assert result["examples"] == 6
    assert result["test"]["examples"] == 4


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cifar10", r"'cifar10' is not prepared in .*tfds\.builder\('cifar10', file_format='array_record'\)"),
        ("cifarr10", "knows no set 'cifarr10'.*Did you mean 'cifar10'"),
        ("tiny_sett", "Did you mean 'tiny_set'"),
        ("tiny_set:2.0.0", "holds the versions 1.0.0; there is no 2.0.0"),
    ],
)
def test_a_set_that_is_not_there(name, words, tiny_set):
    with pytest.raises(DataError, match=words):
        open_source(f"tfds:{name}")


def test_a_set_that_only_tensorflow_reads(tiny_set, tmp_path, monkeypatch):
    folder = tmp_path / "tiny_set" / "1.0.0"
    folder.mkdir(parents=True)
    for file in tiny_set.glob("*.json"):
        (folder / file.name).write_text(file.read_text().replace('"array_record"', '"tfrecord"'))
    said = json.loads((folder / "dataset_info.json").read_text()) | {"fileFormat": "tfrecord"}
    (folder / "dataset_info.json").write_text(json.dumps(said))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match="is prepared as tfrecord, which only TensorFlow reads"):
        open_source("tfds:tiny_set")


def test_configurations_are_listed(tiny_set, tmp_path, monkeypatch):
    for config in ("large", "small"):
        folder = tmp_path / "shelf" / config / "1.0.0"
        folder.mkdir(parents=True)
        (folder / "dataset_info.json").write_text("{}")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match=r"configurations large, small\. Name one: tfds:shelf/large"):
        open_source("tfds:shelf")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"split": "tran"}, "has no split 'tran'. Did you mean 'train'"),
        ({"split": "train=train,exam=test"}, "expected a split's name, or train=, validation= or test= before it"),
        ({"split": "test=test"}, "which one is to be learned from is not clear"),
        ({"split": "train[:x]"}, "cannot be read at 'train"),
        ({"label_column": "tags", "task": "classification"}, "has a list or an object as 'tags'.*`task='multilabel'`"),
        ({"input_column": "imag"}, "no column 'imag'. Did you mean 'image'"),
    ],
)
def test_what_a_set_does_not_have(settings, words, tiny_set):
    with pytest.raises(DataError, match=words):
        open_source("tfds:tiny_set", **settings)


# Parquet

FEATURES = {
    "image": {"_type": "Image"},
    "label": {"_type": "ClassLabel", "names": ["dog", "cat"]},
}


def pictures_file(path, values, labels, features=FEATURES):
    table = pyarrow.table({"image": [{"bytes": png(v), "path": f"{v}.png"} for v in values], "label": labels})
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path)
    return path


def test_a_parquet_file_of_pictures_with_class_names(tmp_path):
    found = open_source(pictures_file(tmp_path / "t.parquet", [0, 10, 20], [1, 0, 1]))
    assert (found.modality, found.labels, found.targets.tolist()) == ("image", ("dog", "cat"), [1, 0, 1])
    assert [int(decode(raw)[0, 0, 0]) for raw in found.raw] == [0, 10, 20]
    bare = from_parquet(pictures_file(tmp_path / "bare.parquet", [0, 10], [1, 0], {}))
    assert (bare.modality, bare.labels, bare.targets.tolist()) == ("image", ("0", "1"), [1, 0])


def test_a_folder_of_parquet_files_has_splits(tmp_path):
    for name, values in (
        ("train-00000-of-00002", [0, 10]),
        ("train-00001-of-00002", [20]),
        ("test-00000-of-00001", [30]),
    ):
        pictures_file(tmp_path / "data" / f"{name}.parquet", values, [v // 10 % 2 for v in values])
    found = open_source(tmp_path)
    assert {name: part.targets.tolist() for name, part in found.parts.items()} == {"train": [0, 1, 0], "test": [1]}
    assert len(open_source(tmp_path, split="test")) == 1


def test_parquet_files_of_sound_text_and_numbers(tmp_path):
    sound = pyarrow.table({"clip": [wav(np.zeros(8)), wav(np.ones(4) / 2)], "label": ["a", "b"]})
    parquet.write_table(sound, tmp_path / "s.parquet")
    found = from_parquet(tmp_path / "s.parquet")
    assert (found.modality, [len(decode_sound(raw).samples) for raw in found.raw]) == ("audio", [8, 4])
    parquet.write_table(pyarrow.table({"text": ["x", "y"], "label": [3, 20]}), tmp_path / "t.parquet")
    assert (from_parquet(tmp_path / "t.parquet").raw, from_parquet(tmp_path / "t.parquet").labels) == (
        ["x", "y"],
        ("3", "20"),
    )
    rows = pyarrow.table({"features": [[1.0, 2.0], [3.0, 4.0]], "label": ["a", "b"]})
    parquet.write_table(rows, tmp_path / "n.parquet")
    numbers = open_source(tmp_path / "n.parquet", input_column="features")
    assert (numbers.modality, numbers.raw) == ("array", [[1.0, 2.0], [3.0, 4.0]])


def test_a_bad_picture_of_a_parquet_file_is_named_or_skipped(tmp_path):
    table = pyarrow.table(
        {"image": [png(1), b"\x89no picture", png(2)], "label": ["a", "b", "b"], "who": ["x", "y", "z"]}
    )
    parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"The picture t\.parquet:2 is not in a format"):
        open_source(tmp_path / "t.parquet")
    found = open_source(tmp_path / "t.parquet", on_bad_file="skip", group_by="who")
    assert (found.keys, found.targets.tolist()) == (("t.parquet:1", "t.parquet:3"), [0, 1])
    assert found.groups == ("x", "z")
    assert [name for name, _ in found.skipped] == ["t.parquet:2"]


def test_a_parquet_file_that_cannot_be_read(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no table")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        open_source(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="There is no table"):
        open_source(tmp_path / "absent.parquet")


# Hugging Face datasets


@pytest.fixture
def hf(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets", reason="needs the [hf] extra")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", tmp_path / "cache" / "downloads")
    return datasets


def test_a_hugging_face_set_of_pictures(hf, tmp_path):
    for name, values in (("train-00000-of-00001", [0, 10, 20]), ("test-00000-of-00001", [30])):
        pictures_file(tmp_path / "set" / f"{name}.parquet", values, [v // 10 % 2 for v in values])
    found = open_source(f"hf:{tmp_path / 'set'}")
    assert (found.train.modality, found.train.labels) == ("image", ("dog", "cat"))
    assert (found.train.targets.tolist(), found.test.targets.tolist()) == ([0, 1, 0], [1])
    assert int(decode(found.train.raw[2])[0, 0, 0]) == 20
    assert len(open_source(f"hf:{tmp_path / 'set'}", split="train[:2]")) == 2
    with pytest.raises(DataError, match="has no split 'tset'"):
        open_source(f"hf:{tmp_path / 'set'}", split="tset")


def test_hugging_face_sound_is_decoded_by_our_own_reader(hf, tmp_path):
    said = {"audio": {"_type": "Audio"}, "label": {"_type": "ClassLabel", "names": ["no", "yes"]}}
    said["speaker"] = {"dtype": "string", "_type": "Value"}
    clips = [{"bytes": wav(np.full(4, 0.5)), "path": "a.wav"}, {"bytes": wav(np.zeros(4)), "path": "b.wav"}]
    table = pyarrow.table({"audio": clips, "label": [0, 1], "speaker": ["x", "y"]})
    (tmp_path / "set").mkdir()
    metadata = {"huggingface": json.dumps({"info": {"features": said}})}
    parquet.write_table(table.replace_schema_metadata(metadata), tmp_path / "set" / "train.parquet")
    found = open_source(f"hf:{tmp_path / 'set'}", group_by="speaker")
    assert (found.modality, found.labels, found.groups) == ("audio", ("no", "yes"), ("x", "y"))
    clip = decode_sound(found.raw[0])
    assert (clip.sample_rate, clip.samples.shape) == (8000, (4, 1))
    assert "torchcodec" not in sys.modules


def test_a_set_that_hugging_face_saved_to_disk(hf, tmp_path):
    rows = {"text": ["x", "y"], "label": [0, 1]}
    features = hf.Features(text=hf.Value("string"), label=hf.ClassLabel(names=["no", "yes"]))
    hf.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "kept"))
    found = open_source(f"hf:{tmp_path / 'kept'}")
    assert (found.modality, found.raw, found.labels, found.targets.tolist()) == (
        "text",
        ["x", "y"],
        ("no", "yes"),
        [0, 1],
    )


def test_a_hugging_face_set_that_is_not_there(hf, monkeypatch):
    monkeypatch.setattr(hf.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="'hf:nobody/nothing' cannot be loaded"):
        open_source("hf:nobody/nothing")


def test_without_the_library_a_hugging_face_set_is_refused_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"needs datasets: pip install 'flaxtl\[hf\]'"):
        open_source("hf:owner/name")


def test_sets_are_read_lazily_and_picked_apart(tiny_set):
    """A subset of a published set reads nothing but what is used."""
    found = open_source("tfds:tiny_set", split="train").subset([1, 3])
    assert [type(raw) for raw in found.raw] == [flaxtl.data.Record] * 2
    assert found.raw[0].content() == found.raw[0].value()


def test_parquet_files_that_are_not_read_are_named(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = pyarrow.table({"text": ["x", "y"], "label": ["a", "b"]})
    for name in ("train-00000-of-00003", "train-00002-of-00003", "extra"):
        parquet.write_table(rows, tmp_path / f"{name}.parquet")
    found = open_source(tmp_path)
    assert len(found) == 4
    missing, unread = found.notes
    assert missing.startswith("2 of 3 files of 'train' are there; the examples of the others are missing.")
    assert "holds 'extra' too, which is not read." in unread
    assert len(open_source(tmp_path, split="train").notes) == 1
    assert open_source(tmp_path, split="extra").notes == ()


def test_an_empty_or_missing_first_picture_does_not_make_texts_of_the_others(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    for first in (b"", None):
        table = pyarrow.table({"image": [first, png(1), png(2)], "label": ["a", "b", "a"]})
        parquet.write_table(table, tmp_path / "t.parquet")
        found = open_source(tmp_path / "t.parquet", on_bad_file="skip")
        assert (found.modality, len(found), len(found.skipped)) == ("image", 2, 1)
