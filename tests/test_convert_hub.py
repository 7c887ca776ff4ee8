"""hf:owner/name from a hub on this machine: fetched once, verified, resumed, pinned; and what goes wrong is told."""

import json
import os
import subprocess
import sys
from pathlib import Path

import hub_server
import numpy as np
import parity
import pytest
from parity import ours
from safetensors.numpy import save

from flaxtl import paths
from flaxtl.cli import main
from flaxtl.convert import hub, load
from flaxtl.convert.converting import plan_conversion
from flaxtl.convert.readers import read_weights
from flaxtl.errors import CheckpointError

REPO = "someone/tiny-resnet"
NOWHERE = "http://127.0.0.1:9"  # the port of "discard", where nobody listens


@pytest.fixture(scope="module")
def files():
    """A repository's files: settings, a network's weights, and things that nobody needs."""
    with np.load(parity.FIXTURES / "resnet_basic.npz") as file:
        listed = json.loads(str(file["about"]))["tensors"]
    tensors = {name: tensor.read() for name, tensor in ours.weights_of(listed, {}).items()}
    config = {"architecture": "resnet18", "pretrained_cfg": {"input_size": [3, 64, 64]}}
    return {
        ".gitattributes": b"*.safetensors filter=lfs",
        "README.md": b"# tiny",
        "config.json": json.dumps(config).encode(),
        "model.safetensors": save(tensors, metadata={"format": "pt"}),
        "pytorch_model.bin": b"x" * 2000,
        "onnx/model.onnx": b"x" * 2000,
        "runs/config.json": b"{}",
    }


@pytest.fixture
def served(files):
    """The hub, to be set wrong by a test, and its address."""
    served = hub_server.Hub(REPO, dict(files))
    with hub_server.Server(served) as server:
        yield served, server.endpoint


@pytest.fixture
def at(tmp_path, monkeypatch):
    """Points the hub's client, which looks at the environment only once, to an address and to caches of the test's."""
    from huggingface_hub import constants

    def point(endpoint, *, offline=False):
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    return point


def downloads(served):
    return [path.rpartition("/")[2] for method, path, _ in served.requests if method == "GET" and "/resolve/" in path]


def test_a_repository_is_fetched_once_and_pinned(served, at, files, tmp_path):
    served, endpoint = served
    at(endpoint)
    model = load(f"hf:{REPO}")
    told = model.card.provenance["converted"]
    assert (told["source"], told["revision"]) == (f"hf:{REPO}", hub_server.COMMIT)
    assert told["sha256"]["model.safetensors"] == served.sibling("model.safetensors")["lfs"]["sha256"]
    assert model.card.input.size == (64, 64)
    # Only what is needed is fetched, the weights last.
    assert downloads(served)[-1] == "model.safetensors"
    assert set(downloads(served)) == {"config.json", "model.safetensors"}
    (tmp_path / "plain").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "plain" / name).write_bytes(files[name])
    plain = plan_conversion(read_weights(tmp_path / "plain")).read()
    wanted, found = dict(paths.leaves(plain.variables)), dict(paths.leaves(model.variables))
    assert all(np.array_equal(found[leaf], wanted[leaf]) for leaf in wanted)
    # The second time nobody is asked, even if the branch has moved on.
    served.requests.clear()
    served.commit = "d" * 40
    for name in (f"hf:{REPO}", f"hf:{REPO}@main", f"hf:{REPO}@{hub_server.COMMIT}"):
        assert load(name).card.provenance["converted"]["revision"] == hub_server.COMMIT
    assert served.requests == []


def test_a_download_that_breaks_off_is_resumed(served, at, monkeypatch):
    from huggingface_hub import constants

    served, endpoint = served
    at(endpoint)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    served.cut = 5000
    assert load(f"hf:{REPO}").card.provenance["converted"]["revision"] == hub_server.COMMIT
    ranges = [asked for method, path, asked in served.requests if method == "GET" and path.endswith(".safetensors")]
    assert ranges == ["", "bytes=5000-"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_that_is_not_what_the_hub_says(served, at, name):
    served, endpoint = served
    at(endpoint)
    served.altered = {name}
    for _ in range(2):  # the damaged one does not count as fetched
        with pytest.raises(CheckpointError, match=rf"{name} is not what the hub says it is.*fetch it again"):
            load(f"hf:{REPO}")
    served.altered = set()
    assert load(f"hf:{REPO}").card.provenance["converted"]["revision"] == hub_server.COMMIT


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ((404, "RepoNotFound"), "The hub has no model 'someone/tiny-resnet', or it is private"),
        ((401, "RepoNotFound"), r"or it is private.*hf auth login.*HF_TOKEN"),
        ((401, ""), "or it is private"),
        ((403, "GatedRepo"), "Access to someone/tiny-resnet has to be granted by its owners"),
        ((500, ""), "is not in the cache on this machine, and the hub at http.* could not be asked"),
    ],
)
def test_answers_that_are_refusals(served, at, status, said):
    served, endpoint = served
    at(endpoint)
    served.status = status
    with pytest.raises(CheckpointError, match=said):
        load(f"hf:{REPO}")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (f"hf:{REPO}@v9", f"{REPO} has no revision 'v9'"),
        ("hf:someone/else", "The hub has no model 'someone/else'"),
        ("hf:", "does not name a model of the hub"),
        ("hf:a/b/c", "does not name a model of the hub"),
        ("hf:a@b@c", "does not name a model of the hub"),
        ("hf:-x/--y", "no name of a model of the hub"),
    ],
)
def test_names_that_lead_nowhere(served, at, name, said):
    at(served[1])
    with pytest.raises(CheckpointError, match=said):
        load(name)


@pytest.mark.parametrize("offline", [True, False])
def test_without_a_network_the_cache_is_used(served, at, offline):
    served, endpoint = served
    at(NOWHERE, offline=offline)
    said = "HF_HUB_OFFLINE is set" if offline else f"the hub at {NOWHERE} could not be asked"
    with pytest.raises(CheckpointError, match=f"is not in the cache on this machine, and {said}"):
        load(f"hf:{REPO}")
    at(endpoint)
    first = load(f"hf:{REPO}")
    at(NOWHERE, offline=offline)
    assert load(f"hf:{REPO}").card == first.card


def test_what_another_program_fetched_is_used_without_a_network(served, at, tmp_path):
    from huggingface_hub import hf_hub_download

    at(served[1])
    for name in ("config.json", "model.safetensors"):
        hf_hub_download(REPO, name)
    at(NOWHERE)
    model = load(f"hf:{REPO}")
    assert model.card.provenance["converted"]["revision"] == hub_server.COMMIT
    assert any("could not be reached" in note for note in model.notes)


def test_a_repository_in_parts(served, at, files):
    served, endpoint = served
    at(endpoint)
    with np.load(parity.FIXTURES / "resnet_basic.npz") as file:
        listed = json.loads(str(file["about"]))["tensors"]
    tensors = {name: tensor.read() for name, tensor in ours.weights_of(listed, {}).items()}
    names = list(tensors)
    del served.files["model.safetensors"]
    table = {}
    for number, part in enumerate((names[:20], names[20:]), 1):
        name = f"model-0000{number}-of-00002.safetensors"
        served.files[name] = save({n: tensors[n] for n in part})
        table |= dict.fromkeys(part, name)
    served.files["model.safetensors.index.json"] = json.dumps({"weight_map": table}).encode()
    model = load(f"hf:{REPO}")
    assert len(model.card.provenance["converted"]["sha256"]) == 2
    assert len(model.card.provenance["converted"]["tensors"]) == len(names)


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        (["model.safetensors", "pytorch_model.bin", "tf_model.h5"], ["model.safetensors"]),
        (["pytorch_model.bin", "flax_model.msgpack"], ["pytorch_model.bin"]),
        (["flax_model.msgpack", "tokenizer.json", "README.md"], ["tokenizer.json", "flax_model.msgpack"]),
        (
            ["model.safetensors", "modules.json", "1_Pooling/config.json", "openvino/x.json", "a/b/config.json"],
            ["1_Pooling/config.json", "modules.json", "model.safetensors"],
        ),
        (
            ["m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors", "m.safetensors.index.json"],
            ["m.safetensors.index.json", "m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"],
        ),
    ],
)
def test_which_files_are_fetched(sizes, chosen):
    assert hub.chosen(dict.fromkeys(sizes, 1), "hf:x") == chosen


def test_no_telling_which_files_to_fetch():
    with pytest.raises(CheckpointError, match=r"several files of weights, a\.safetensors, b\.safetensors"):
        hub.chosen({"a.safetensors": 1, "b.safetensors": 1}, "hf:x")
    with pytest.raises(CheckpointError, match=r"no weights that flaxtl reads; it holds README\.md"):
        hub.chosen({"README.md": 1}, "hf:x")


def test_the_command_line_converts_from_the_hub(served, at, tmp_path, capsys):
    at(served[1])
    assert main(["convert", f"hf:{REPO}", str(tmp_path / "model"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["origin"]["revision"] == hub_server.COMMIT
    assert main(["convert", "hf:someone/else", str(tmp_path / "other")]) == 2
    said = capsys.readouterr().err
    assert "The hub has no model 'someone/else'" in said
    assert "Traceback" not in said


def test_hf_endpoint_of_the_environment_is_respected(served, tmp_path):
    code = f"import flaxtl; print(flaxtl.load('hf:{REPO}').card.provenance['converted']['revision'])"
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("HF_")},
        "HF_ENDPOINT": served[1],
        "HF_HOME": str(tmp_path / "home"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "TQDM_POSITION": "-1",  # as on a terminal
    }
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, check=True, env=environment, cwd=Path(__file__).parent)
    assert done.stdout.strip() == hub_server.COMMIT
    assert "model.safetensors" in done.stderr  # the progress bar
    again = subprocess.run(
        run,
        capture_output=True,
        text=True,
        check=True,
        env={**environment, "HF_ENDPOINT": NOWHERE, "HF_HUB_OFFLINE": "1"},
    )
    assert again.stdout.strip() == hub_server.COMMIT
