"""timm's config.json decides what no tensor shows, and what of it is not computed is refused by name."""

import json
import re

import numpy as np
import parity
import pytest
import torch_files
from parity import ours
from safetensors.numpy import save_file

from flaxtl.cli.main import main
from flaxtl.convert import load
from flaxtl.convert.converting import plan_conversion
from flaxtl.convert.families import labels, timm_names
from flaxtl.convert.readers import read_weights
from flaxtl.convert.weights import Tensor, Weights
from flaxtl.errors import CheckpointError
from flaxtl.model import Model


def given(fixture, config=None, **changed):
    """The weights of a recorded network, with a config.json of their own."""
    with np.load(parity.FIXTURES / f"{fixture}.npz") as file:
        about = json.loads(str(file["about"]))
    settings = about["config"] if config is None else config
    return ours.weights_of(about["tensors"], {**settings, **changed})


def network_of(fixture, **config):
    return plan_conversion(given(fixture, config)).recognised.network.config


def arrays(fixture):
    return {name: tensor.read() for name, tensor in given(fixture).items()}


def published(folder, tensors, config=None, prefix=""):
    folder.mkdir(parents=True, exist_ok=True)
    save_file({prefix + n: a for n, a in tensors.items()}, folder / "model.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("fixture", "architecture", "said"),
    [
        ("resnet_basic", "resnet18", {"downsample": "stride"}),
        ("resnet_basic", "resnetblur18", {"downsample": "blur"}),
        ("resnet_bottleneck", "resnetblur50", {"downsample": "blur"}),
        ("resnet_bottleneck", "resnetaa50", {"downsample": "average"}),
        ("resnet_d", "resnetaa101d", {"downsample": "average", "shortcut": "average"}),
        ("resnet_c", "gluon_resnet50_v1c", {"downsample": "stride", "shortcut": "conv"}),
        ("efficientnet", "efficientnet_b0", {"padding": "symmetric", "epsilon": 1e-5}),
        ("efficientnet", "tf_efficientnet_b3_ns", {"padding": "same", "epsilon": 1e-3}),
        ("convnext", "convnext_base_in22k", {"epsilon": 1e-6, "activation": "gelu"}),
        ("convnext", "convnext_xxlarge", {"epsilon": 1e-5}),
        ("convnext", "test_convnext2", {"epsilon": 1e-5, "activation": "gelu_tanh"}),
    ],
)
def test_the_name_decides_what_no_tensor_shows(fixture, architecture, said):
    found = network_of(fixture, architecture=architecture)
    assert {name: found[name] for name in said} == said


@pytest.mark.parametrize(
    ("fixture", "architecture", "reason"),
    [
        ("resnet_bottleneck", "resnet50_gn", "another normalisation than BatchNorm"),
        ("resnet_bottleneck", "wide_resnet50_2", "wider or grouped convolutions"),
        ("resnet_bottleneck", "seresnet50", "attention over channels"),
        ("resnet_bottleneck", "resnetrs50", "attention over channels"),
        ("convnext", "convnext_large_mlp", "a hidden layer in its head"),
        ("convnext", "test_convnext3", "a kernel for each stage"),
        ("efficientnet", "efficientnet_blur_b0", "pooling that blurs"),
        ("efficientnet", "efficientnet_b0_gn", "another normalisation"),
        ("mobilenetv3_small", "tf_mobilenetv3_small_minimal_100", "no squeeze-and-excitation"),
        ("vit_token", "vit_base_patch16_rpn_224", "blocks of another kind"),
        ("vit_token", "beit_base_patch16_224", "blocks of another kind"),
    ],
)
def test_an_architecture_that_is_not_listed_is_refused_with_what_differs(fixture, architecture, reason):
    with pytest.raises(CheckpointError, match=rf"does not know the architecture '{architecture}', which has {reason}"):
        plan_conversion(given(fixture, {"architecture": architecture}))


@pytest.mark.parametrize(
    ("fixture", "changed", "said"),
    [
        ("resnet_basic", {"global_pool": "max"}, "global_pool='max', where flaxtl computes 'avg'"),
        ("resnet_basic", {"model_args": {"global_pool": "catavgmax"}}, "global_pool='catavgmax'"),
        ("resnet_basic", {"model_args": {"output_stride": 16}}, "output_stride=16, where flaxtl computes 32"),
        ("resnet_basic", {"model_args": {"act_layer": "mish"}}, "act_layer='mish', where flaxtl computes 'relu'"),
        ("resnet_basic", {"model_args": {"aa_layer": "blurpc"}}, "aa_layer='blurpc'"),
        ("resnet_basic", {"model_args": {"replace_stem_pool": True}}, "replace_stem_pool=True"),
        ("resnet_basic", {"model_args": {"norm_layer": "groupnorm"}}, "norm_layer='groupnorm'"),
        (
            "resnet_basic",
            {"model_args": {"attn_of_tomorrow": 1}},
            "attn_of_tomorrow=1, a setting that flaxtl does not know",
        ),
        ("convnext", {"model_args": {"norm_layer": "rmsnorm"}}, "norm_layer='rmsnorm'"),
        ("convnext", {"model_args": {"output_stride": 8}}, "output_stride=8"),
        ("efficientnet", {"model_args": {"pad_type": "valid"}}, "pad_type='valid'"),
        ("efficientnet", {"model_args": {"act_layer": "relu"}}, "act_layer='relu', where flaxtl computes 'silu'"),
        ("efficientnet", {"model_args": {"aa_layer": "blur"}}, "aa_layer='blur'"),
        ("vit_token", {"model_args": {"dynamic_img_pad": True}}, "dynamic_img_pad=True"),
        ("vit_token", {"model_args": {"pos_embed": "none"}}, "pos_embed='none'"),
        ("vit_token", {"global_pool": "avgmax"}, "global_pool='avgmax'"),
        ("resnet_basic", {"pretrained_cfg": {"interpolation": "random"}}, "pretrained_cfg says interpolation='random'"),
        ("resnet_basic", {"pretrained_cfg": {"crop_mode": "zoom"}}, "crop_mode='zoom'"),
        ("resnet_basic", {"pretrained_cfg": {"label_offset": 1}}, "label_offset=1"),
        ("resnet_basic", {"pretrained_cfg": {"crop_ptc": 0.9}}, r"crop_ptc=0.9, .*nearest known one is 'crop_pct'"),
        ("resnet_basic", {"quantise": "int8"}, "config.json says quantise='int8', a setting that flaxtl does not know"),
    ],
)
def test_settings_that_are_not_computed_are_refused_by_name(fixture, changed, said):
    with pytest.raises(CheckpointError, match=said):
        plan_conversion(given(fixture, **changed))


def test_all_that_is_not_computed_is_named_at_once():
    changed = {"output_stride": 8, "global_pool": "max", "cardinality": 4}
    with pytest.raises(CheckpointError, match=r"output_stride(.|\n)*global_pool(.|\n)*cardinality"):
        plan_conversion(given("resnet_basic", model_args=changed))


def test_settings_that_change_no_output_are_let_through():
    harmless = {"drop_rate": 0.2, "drop_path_rate": 0.1, "zero_init_last": False, "num_classes": 5, "pretrained": True}
    about = {"license": "mit", "tag": "a1_in1k", "test_input_size": [3, 96, 96], "test_crop_pct": 1.0, "url": "x"}
    about |= {"custom_load": False, "first_conv": "conv1", "classifier": "fc", "pool_size": [2, 2], "notes": ["n"]}
    plain = plan_conversion(given("resnet_basic")).recognised
    found = plan_conversion(
        given("resnet_basic", model_args=harmless, pretrained_cfg={"input_size": [3, 64, 64], **about})
    )
    assert found.recognised.network == plain.network
    assert found.recognised.input == plain.input


@pytest.mark.parametrize(
    ("fixture", "arguments", "said"),
    [
        ("resnet_basic", {"aa_layer": "blur"}, {"downsample": "blur"}),
        ("resnet_basic", {"act_layer": "swish"}, {"activation": "silu"}),
        (
            "convnext",
            {"norm_eps": 1e-3, "act_layer": "silu"},
            {"epsilon": 1e-3, "last_epsilon": 1e-3, "activation": "silu"},
        ),
        ("efficientnet", {"pad_type": "same", "bn_eps": 0.01}, {"padding": "same", "epsilon": 0.01}),
        ("vit_token", {"num_heads": 6, "act_layer": "relu", "img_size": [32, 48]}, {"heads": 6, "activation": "relu"}),
    ],
)
def test_arguments_that_are_computed_reach_the_network(fixture, arguments, said):
    found = plan_conversion(given(fixture, model_args=arguments)).recognised.network.config
    assert {name: found[name] for name in said} == said


def test_a_narrower_vit_has_the_heads_of_its_name():
    planned = plan_conversion(given("vit_token", model_args={"embed_dim": 24, "img_size": [32, 48]}))
    assert planned.recognised.network.config["heads"] == 6


def test_what_is_ignored_as_asked_is_noted_and_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = {"architecture": "resnet18", "model_args": {"output_stride": 8}}
    folder = published(tmp_path / "source", arrays("resnet_basic"), config)
    with pytest.raises(CheckpointError, match="output_stride"):
        load(folder)
    model = load(folder, ignore_settings=["output_stride"])
    assert any("ignored as asked" in note and "output_stride" in note for note in model.notes)
    with pytest.raises(CheckpointError, match="output_stride"):  # the copy in the cache is of another question
        load(folder)
    assert main(["convert", str(folder), str(tmp_path / "out")]) == 2
    assert "--ignore-settings output_stride" in capsys.readouterr().err
    assert main(["convert", str(folder), str(tmp_path / "out"), "--ignore-settings", "output_stride"]) == 0
    notes = Model.load(tmp_path / "out").card.provenance["converted"]["notes"]
    assert any("ignored as asked" in note for note in notes)


FIRST = {"architecture": "resnet18", "num_features": 48, "num_classes": 5, "mean": [0.5] * 3, "std": [0.25] * 3}


@pytest.mark.parametrize(
    ("config", "labels"),
    [
        ({**FIRST, "labels": ["a", "b", "c", "d", "e"]}, ("a", "b", "c", "d", "e")),
        ({**FIRST, "label_names": {"0": "v", "1": "w", "2": "x", "3": "y", "4": "z"}}, ("v", "w", "x", "y", "z")),
        ({**FIRST, "label_descriptions": {"n1": "a dog"}}, ()),
    ],
)
def test_the_first_form_of_config_json_is_read(config, labels):
    config |= {"input_size": [3, 96, 80], "crop_pct": 0.9, "interpolation": "bilinear", "pool_size": [3, 3]}
    found = plan_conversion(given("resnet_basic", config)).recognised
    assert found.labels == labels
    assert (found.input.size, found.input.crop_fraction, found.input.interpolation) == ((96, 80), 0.9, "bilinear")
    assert (found.input.mean, found.input.std) == ((0.5,) * 3, (0.25,) * 3)
    with pytest.raises(CheckpointError, match="crop_mode='zoom'"):
        plan_conversion(given("resnet_basic", {**config, "crop_mode": "zoom"}))


def test_labels_lie_where_timm_puts_them():
    names = ["a", "b", "c", "d", "e"]
    config = {"architecture": "resnet18", "pretrained_cfg": {"label_names": names}}
    assert plan_conversion(given("resnet_basic", config)).recognised.labels == tuple(names)


@pytest.mark.parametrize("fixture", ["resnet_basic", "vit_token", "efficientnet", "convnext"])
def test_what_transformers_trainer_made_of_a_timm_network_loads(tmp_path, monkeypatch, fixture):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    wrapper = {"model_type": "timm_wrapper", "architectures": ["TimmWrapperForImageClassification"], "do_pooling": True}
    wrapper |= {"initializer_range": 0.02, "transformers_version": "5.24.0", "dtype": "float32"}
    wrapper |= {"problem_type": "multi_label_classification", "label_names": ["a", "b", "c", "d", "e"]}
    config = {**given(fixture).config, **wrapper}
    model = load(published(tmp_path / "source", arrays(fixture), config, prefix="timm_model."))
    alone = plan_conversion(given(fixture))
    assert model.card.network.config == json.loads(json.dumps(alone.recognised.network.config))
    assert model.card.labels == ("a", "b", "c", "d", "e")
    assert model.card.heads[0].task == "multilabel"


def test_a_wrapped_network_of_an_unlisted_architecture_is_refused_by_that_name(tmp_path):
    config = {"model_type": "timm_wrapper", "architecture": "resnet50_gn"}
    with pytest.raises(CheckpointError, match="'resnet50_gn', which has another normalisation"):
        load(published(tmp_path, arrays("resnet_bottleneck"), config, prefix="timm_model."))


@pytest.mark.parametrize("named", ["resnet18", "vit_base_patch16_224", "convnext_tiny", "resnet50.a1_in1k"])
def test_a_suggestion_is_never_what_was_asked(named):
    weights = given("vit_hf_vit", {"architecture": named})
    lost = Weights({f"part.{n}": t for n, t in weights.tensors.items()}, weights.config)
    with pytest.raises(
        CheckpointError, match=rf"names '{named}', which flaxtl knows, but the tensors have other names"
    ):
        plan_conversion(lost)


def test_the_list_of_what_is_known_is_whole():
    lost = Weights(given("resnet_basic").tensors, {"architecture": "qqqq"})
    with pytest.raises(CheckpointError) as caught:
        plan_conversion(Weights({f"x.{n}": t for n, t in lost.tensors.items()}, lost.config))
    assert all(pattern in str(caught.value) for pattern in (*timm_names.RESNET, *timm_names.VIT, "siglip", "whisper"))
    assert " more" not in str(caught.value)


@pytest.mark.parametrize(
    ("fixture", "what"),
    [
        ("resnet_basic", "a ResNet of depths .* pictures of 224×224, bilinear, the centre 0.875 .* mean 0.485"),
        ("torchvision_mobilenet_v2", "mobilenetv2 of .* pictures of 224×224"),
        ("torchvision_efficientnet", "efficientnet_b of .* bicubic"),
        ("convnext", "a ConvNeXt of depths .* with GELU"),
        ("resnet_cifar", "pictures of 32×32"),
    ],
)
def test_what_is_assumed_without_a_config_is_said(fixture, what):
    [note] = [n for n in plan_conversion(given(fixture, {})).model.notes if "assumed" in n]
    assert re.search(what, note)


def test_the_channels_are_those_of_the_first_layer():
    grey = given("resnet_basic", {})
    tensors = dict(grey.tensors) | ours.weights_of([["conv1.weight", [64, 1, 7, 7], "float32"]], {}).tensors
    found = plan_conversion(Weights(tensors, {"architecture": "resnet18", "model_args": {"in_chans": 1}})).recognised
    assert (found.input.channels, len(found.input.mean)) == (1, 1)
    own = {"architecture": "resnet18", "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]}}
    with pytest.raises(CheckpointError, match=r"mean=\[0.1, 0.2, 0.3\] .* takes 1 channels"):
        plan_conversion(Weights(tensors, own))


def checkpoint(file, fixture, **beside):
    torch_files.write_state(file, arrays(fixture), lambda s: {"epoch": 3, "state_dict": s, **beside})
    return file


def namespace(module="argparse", name="Namespace", **attributes):
    return torch_files.Attributes(torch_files.Name(module, name), attributes)


@pytest.mark.parametrize("name", ["last.ckpt", "model_best.pth.tar", "epoch=3-step=10.ckpt", "final.pth", "w.th"])
def test_a_folder_with_one_checkpoint_is_that_checkpoint(tmp_path, monkeypatch, name):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "run"
    folder.mkdir()
    checkpoint(folder / name, "resnet_basic")
    (folder / "summary.csv").write_text("epoch,loss\n")
    for other in ("optimizer.pt", "training_args.bin", "rng_state_0.pth"):
        (folder / other).write_bytes(b"\x80\x02N.")
    assert load(folder).card.network.family == "resnet"


def test_a_folder_with_several_checkpoints_names_them_all(tmp_path):
    names = [f"checkpoint-{i}.pth.tar" for i in range(12)] + ["last.ckpt", "model_best.pth.tar"]
    for name in names:
        checkpoint(tmp_path / name, "resnet_basic")
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path)
    assert all(name in str(caught.value) for name in names)
    assert "Give the one that is meant" in str(caught.value)


def test_a_folder_above_its_checkpoints_names_them(tmp_path):
    below = tmp_path / "version_0" / "checkpoints"
    below.mkdir(parents=True)
    checkpoint(below / "epoch=9.ckpt", "resnet_basic")
    with pytest.raises(CheckpointError, match=r"version_0/checkpoints/epoch=9\.ckpt: give the one that is meant"):
        load(tmp_path)


@pytest.mark.parametrize(
    "beside",
    [
        {"arch": "resnetblur18"},
        {
            "args": namespace(
                model="resnetblur18.bt_in1k",
                lr=0.1,
                output=torch_files.Call(torch_files.Name("pathlib", "PosixPath"), ("a", "b")),
            )
        },
        {"hyper_parameters": {"model_name": "resnetblur18", "lr": 0.1}},
        {"hyper_parameters": namespace("lightning_fabric.utilities.data", "AttributeDict", backbone="resnetblur18")},
    ],
)
def test_the_architecture_that_a_checkpoint_says_is_computed(tmp_path, monkeypatch, beside):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = load(checkpoint(tmp_path / "x.pth", "resnet_basic", **beside))
    assert model.card.network.config["downsample"] == "blur"


def test_timms_arguments_in_a_checkpoint_are_read(tmp_path):
    args = {"model": "resnet18", "gp": None, "crop_pct": 0.9, "mean": [0.5] * 3, "std": [0.5] * 3, "img_size": 96}
    args |= {"interpolation": "", "model_kwargs": {"act_layer": "silu"}, "lr": 0.5, "bn_eps": None}
    file = checkpoint(tmp_path / "x.pth", "resnet_basic", arch="resnet18", args=namespace(**args))
    planned = plan_conversion(read_weights(file))
    found = planned.recognised
    assert (found.input.size, found.input.crop_fraction, found.input.mean) == ((96, 96), 0.9, (0.5,) * 3)
    assert found.network.config["activation"] == "silu"
    assert any("the rest is taken to be of training" in note for note in planned.model.notes)
    file = checkpoint(tmp_path / "y.pth", "resnet_basic", arch="resnet18", args=namespace(**{**args, "gp": "max"}))
    with pytest.raises(CheckpointError, match="global_pool='max'"):
        plan_conversion(read_weights(file))


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        ({"arch": "resnet50_gn"}, "'resnet50_gn', which has another normalisation"),
        ({"arch": "my_net"}, r"'my_net'.*ignore_settings=\('architecture',\)"),
        ({"args": namespace(model="wide_resnet50_2")}, "'wide_resnet50_2', which has wider"),
    ],
)
def test_an_architecture_in_a_checkpoint_that_is_not_computed_is_refused(tmp_path, beside, said):
    with pytest.raises(CheckpointError, match=said):
        load(checkpoint(tmp_path / "x.pth", "resnet_bottleneck", **beside))


def test_config_json_and_checkpoint_that_disagree_are_refused(tmp_path):
    checkpoint(tmp_path / "x.pth", "resnet_basic", arch="resnet18")
    (tmp_path / "config.json").write_text('{"architecture": "resnetblur18"}')
    with pytest.raises(CheckpointError, match=r"saved as 'resnet18', but config\.json beside it says 'resnetblur18'"):
        load(tmp_path / "x.pth")


def test_arguments_of_training_alone_change_nothing_and_are_mentioned(tmp_path):
    weights = read_weights(
        checkpoint(tmp_path / "x.pth", "resnet_basic", hyper_parameters={"lr": 1.0, "model": "mine"})
    )
    assert weights.config == {}
    assert any("hyper_parameters nothing was read" in note for note in weights.notes)


def test_names_are_listed_once_and_each_is_a_name():
    lists = (timm_names.RESNET, timm_names.MOBILENET, timm_names.CONVNEXT, timm_names.VIT)
    names = [name for patterns in lists for name in timm_names.expanded(patterns)]
    assert len(names) == len(set(names)) > 180
    assert not any(c in name for name in names for c in "{},. ")
    assert all(timm_names.current_name(name) == name for name in names)


@pytest.mark.parametrize(
    "config", [{"id2label": {"0": "a", "1": "b", "2": "c", "3": "d", "4": "e"}}, {"labels": [*"abcde"]}]
)
def test_a_config_of_class_names_alone_leaves_the_rest_as_without_one(config):
    found, bare = (plan_conversion(given("resnet_basic", c)) for c in (config, {}))
    assert found.recognised.labels == ("a", "b", "c", "d", "e")
    assert found.recognised.input == bare.recognised.input
    assert found.model.notes == bare.model.notes


@pytest.mark.parametrize(
    "empty", [{"interpolation": ""}, {"crop_mode": ""}, {"crop_pct": 0.0}, {"mean": None, "std": None}]
)
def test_empty_settings_of_pictures_mean_timms_defaults(empty):
    found = plan_conversion(given("resnet_basic", pretrained_cfg={"input_size": [3, 64, 64], **empty}))
    assert found.recognised.input == plan_conversion(given("resnet_basic")).recognised.input


@pytest.mark.parity
@pytest.mark.parametrize(
    "name",
    [
        n
        for p in (timm_names.RESNET, timm_names.CONVNEXT, timm_names.VIT, timm_names.MOBILENET)
        for n in timm_names.expanded(p)
    ],
)
def test_every_listed_name_is_computed_as_timm_computes_it(name):
    from parity import timm_networks

    side = 0 if timm_networks.is_vit(name) else 64
    assert timm_networks.error(name, side, **timm_networks.few_blocks(name)) < 1e-5


@pytest.mark.parity
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("resnet18", {"act_layer": "silu", "aa_layer": "avg", "layers": (1, 1, 1, 1)}),
        ("resnet26", {"aa_layer": "blur", "act_layer": "gelu", "layers": (1, 1, 1, 1)}),
        ("resnet18", {"in_chans": 1, "layers": (1, 1, 1, 1)}),
        ("convnext_atto", {"act_layer": "silu", "norm_eps": 1e-3, "depths": (1, 1, 1, 1)}),
        ("efficientnet_b0", {"pad_type": "same", "bn_eps": 1e-2}),
        ("vit_tiny_patch16_224", {"num_heads": 6, "depth": 1, "img_size": 32}),
        ("vit_tiny_patch16_224", {"embed_dim": 96, "depth": 1, "img_size": 64, "global_pool": "avg"}),
        ("vit_tiny_patch16_224", {"class_token": False, "global_pool": "map", "depth": 1, "img_size": 48}),
        (
            "vit_tiny_patch16_224",
            {"reg_tokens": 2, "no_embed_class": True, "init_values": 1e-5, "depth": 1, "img_size": 48},
        ),
        (
            "vit_tiny_patch16_224",
            {"act_layer": "quick_gelu", "qkv_bias": False, "depth": 1, "patch_size": 8, "img_size": 32},
        ),
    ],
)
def test_arguments_are_computed_as_timm_computes_them(name, arguments):
    from parity import timm_networks

    assert timm_networks.error(name, 0 if name.startswith("vit") else 64, **arguments) < 1e-5


def test_a_preprocessor_beside_timms_config_is_mentioned():
    weights = given("resnet_basic")
    beside = Weights(weights.tensors, weights.config, {"image_processor_type": "ViTImageProcessor"})
    assert any("preprocessor_config.json was not read" in note for note in plan_conversion(beside).model.notes)
    assert not any("preprocessor" in note for note in plan_conversion(weights).model.notes)


def test_what_is_assumed_is_said_each_time_it_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = checkpoint(tmp_path / "x.pth", "resnet_basic", arch="resnet18")
    first, again = load(file).notes, load(file).notes
    assert first == again
    assert any("Nothing beside the weights says how pictures are prepared" in note for note in first)


@pytest.mark.parametrize(
    "said", [{"dropout": 0.1}, {"architecture": "yamnet"}, {"label_names": ["a"], "sample_rate": 8000}]
)
def test_families_that_are_published_without_a_config_refuse_one_that_says_more_than_names(said):
    weights = Weights({}, said)
    with pytest.raises(CheckpointError, match="a setting that flaxtl does not know"):
        labels.require_names_alone(weights)
    labels.require_names_alone(Weights({}, {"label_names": ["a"]}))


@pytest.mark.parity
@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [
        ("resnet18", {"layers": [1, 1, 1, 1]}),
        ("resnetblur18", {"layers": [1, 1, 1, 1], "act_layer": "silu"}),
        ("vit_tiny_patch16_224", {"depth": 1, "num_heads": 6}),
    ],
)
def test_what_transformers_saves_of_a_timm_network_loads_with_its_logits(
    tmp_path, monkeypatch, architecture, arguments
):
    import torch
    import transformers

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names = {0: "ant", 1: "bee", 2: "cow"}
    config = transformers.TimmWrapperConfig(architecture=architecture, model_args=arguments, id2label=names)
    config.num_labels = 3
    wrapped = transformers.TimmWrapperForImageClassification(config).eval()
    wrapped.save_pretrained(tmp_path / "saved")
    model = load(tmp_path / "saved")
    assert model.card.labels == ("ant", "bee", "cow")
    x = np.random.default_rng(0).standard_normal((1, 224, 224, 3), dtype=np.float32)
    with torch.no_grad():
        wanted = wrapped(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).logits.numpy()
    network = model.network
    found, _ = network.forward(model.variables, x, 0, len(network.segments))
    assert ours.relative(np.asarray(found), wanted) < 1e-5


@pytest.mark.parametrize(
    "said",
    [
        {"input_size": [3, 0, 32]},
        {"input_size": [3, 32.5, 32]},
        {"input_size": ["3", "32", "32"]},
        {"input_size": 224},
        {"crop_pct": True},
        {"crop_pct": "0.9"},
        {"std": [0, 0, 0]},
        {"std": [float("nan")] * 3},
        {"mean": "imagenet"},
        {"mean": [[0.5] * 3]},
    ],
)
def test_settings_of_pictures_that_are_no_sizes_and_numbers_are_refused_by_name(said):
    (name,) = said
    for config in ({"pretrained_cfg": said}, said):
        with pytest.raises(CheckpointError, match=f"says {name}="):
            plan_conversion(given("resnet_basic", {"architecture": "resnet18", **config}))


@pytest.mark.parametrize(
    "said", [{"pretrained_cfg": "resnet18.a1_in1k"}, {"pretrained_cfg": []}, {"model_args": ["x"]}]
)
def test_parts_of_config_json_that_are_no_settings_are_refused_by_name(said):
    with pytest.raises(CheckpointError, match=f"says {next(iter(said))}=.* settings by name"):
        plan_conversion(given("resnet_basic", {"architecture": "resnet18", **said}))


def test_one_mean_and_deviation_serve_all_channels():
    found = plan_conversion(given("resnet_basic", {**FIRST, "mean": 0.5, "std": [0.25]})).recognised.input
    assert (found.mean, found.std) == ((0.5,), (0.25,))


def test_a_timm_network_that_was_trained_for_numbers_gives_numbers():
    wrapper = {"architecture": "resnet18", "model_type": "timm_wrapper", "problem_type": "regression"}
    assert plan_conversion(given("resnet_basic", wrapper)).recognised.task == "regression"


@pytest.mark.parametrize(("fixture", "head"), [("resnet_basic", "fc"), ("vit_token", "head")])
def test_a_single_output_is_a_number_and_not_a_class_that_is_always_certain(fixture, head):
    weights = given(fixture)
    tensors = {n: Tensor.of(t.read()[:1]) if n.startswith(f"{head}.") else t for n, t in weights.items()}
    config = {k: v for k, v in weights.config.items() if k not in ("num_classes", "label_names")}
    conversion = plan_conversion(Weights(tensors, config))
    assert conversion.model.card.heads[0].task == "regression"
    assert any("a single output" in note for note in conversion.recognised.notes)
