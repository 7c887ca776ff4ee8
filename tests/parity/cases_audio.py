"""Sound: wav2vec 2.0 and HuBERT, AST, and Whisper's encoder, of transformers."""

from parity import Case

CONFIG = "{**model.config.to_dict(), 'model_type': model.config.model_type}"


def _classifier(kind: str, settings: str) -> str:
    return f"transformers.{kind}ForSequenceClassification(transformers.{kind}Config({settings}))"


_TINY_WAVE = (
    "hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, num_labels=5, "
    "classifier_proj_size=12, conv_dim=(8, 12, 16), conv_kernel=(4, 3, 2), conv_stride=(2, 2, 1), "
    "num_feat_extract_layers=3, num_conv_pos_embedding_groups=4, "
)
_LAYER = "feat_extract_norm='layer', conv_bias=True, do_stable_layer_norm=True, num_conv_pos_embeddings=6, "
_GROUP = "num_conv_pos_embeddings=5, "

# Networks with a mixture were trained with the last block's output normalised, as transformers 4 and s3prl have it;
# version 5 mixes it as it is.
_MIXTURE = (
    "model.classifier(model.projector(sum(w * h for w, h in zip(torch.softmax(model.layer_weights, -1), "
    "(*y.hidden_states[:-1], hooks['hubert.encoder.layer_norm'])))).mean(1))"
)


def _wave(name: str, kind: str, settings: str, *, mask: bool = False, clip: int = 203, **others: object) -> Case:
    inputs: dict[str, tuple] = {"input_values": ("normal", (3, clip))}
    network_input = "inputs['input_values']"
    if mask:
        inputs["attention_mask"] = ("mask", (3, clip))
        network_input = "{'x': inputs['input_values'], 'mask': inputs['attention_mask']}"
    prefix = kind.lower()
    blocks = {f"{prefix}.encoder.layers.{i}": f"blocks_{i}" for i in (0, 1)}
    outputs = {"logits": "y.logits"}
    build = _classifier(kind, settings)
    return Case(name, build, inputs, outputs, blocks, CONFIG, network_input, **others)  # type: ignore[arg-type]


_AST = (
    "hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, num_labels=5, "
    "patch_size=4, frequency_stride=3, time_stride=2, max_length=15, num_mel_bins=13"
)
_WHISPER = (
    "vocab_size=20, num_mel_bins=8, d_model=24, encoder_layers=2, encoder_attention_heads=3, encoder_ffn_dim=40, "
    "decoder_layers=1, decoder_attention_heads=3, decoder_ffn_dim=40, max_source_positions=11, "
    "max_target_positions=8, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, "
    "num_hidden_layers=2, num_labels=5, classifier_proj_size=12"
)
_MEL = "inputs['input_features'].transpose(0, 2, 1)"


def _whisper(name: str, kind: str, frames: tuple, outputs: dict, encoder: str, settings: str, **others: object) -> Case:
    inputs: dict[str, tuple] = {"input_features": ("normal", frames)}
    if kind == "Model":
        inputs["decoder_input_ids"] = ("tokens", (frames[0], 4), 20)
    blocks = {f"{encoder}layers.{i}": f"blocks_{i}" for i in (0, 1)}
    build = f"transformers.Whisper{kind}(transformers.WhisperConfig({settings}))"
    return Case(name, build, inputs, outputs, blocks, CONFIG, _MEL, **others)  # type: ignore[arg-type]


CASES = [
    _wave("wav2vec2_group", "Wav2Vec2", _TINY_WAVE + _GROUP),
    _wave("wav2vec2_layer", "Wav2Vec2", _TINY_WAVE + _LAYER, mask=True),
    _wave("wav2vec2_mixture", "Wav2Vec2", _TINY_WAVE + _GROUP + "use_weighted_layer_sum=True"),
    _wave("hubert_group", "Hubert", _TINY_WAVE + _GROUP + "feat_proj_layer_norm=False"),
    Case(
        "hubert_mixture",
        _classifier("Hubert", _TINY_WAVE + _LAYER + "use_weighted_layer_sum=True, output_hidden_states=True"),
        {"input_values": ("normal", (2, 203))},
        {"logits": _MIXTURE},
        {"hubert.encoder.layers.1": "blocks_1"},
        CONFIG,
    ),
    _wave("hubert_layer", "Hubert", _TINY_WAVE + _LAYER, mask=True),
    Case(
        "wav2vec2_bare",
        f"transformers.Wav2Vec2Model(transformers.Wav2Vec2Config({_TINY_WAVE}{_LAYER}))",
        {"input_values": ("normal", (2, 160))},
        {"features": "y.last_hidden_state.mean(1)"},
        {"encoder.layers.1": "blocks_1"},
        CONFIG,
    ),
    Case(
        "ast_classifier",
        f"transformers.ASTForAudioClassification(transformers.ASTConfig({_AST}))",
        {"input_values": ("normal", (2, 15, 13))},
        {"logits": "y.logits", "features": "hooks['classifier.layernorm']"},
        {f"audio_spectrogram_transformer.layers.{i}": f"blocks_{i}" for i in (0, 1)},
        CONFIG,
    ),
    Case(
        "ast_bare",
        f"transformers.ASTModel(transformers.ASTConfig({_AST}, qkv_bias=False, hidden_act='relu'))",
        {"input_values": ("normal", (2, 15, 13))},
        {"features": "y.pooler_output"},
        {"layers.0": "blocks_0"},
        CONFIG,
    ),
    _whisper(
        "whisper_model", "Model", (2, 8, 22), {"features": "y.encoder_last_hidden_state.mean(1)"}, "encoder.", _WHISPER
    ),
    _whisper("whisper_classifier", "ForAudioClassification", (2, 8, 22), {"logits": "y.logits"}, "encoder.", _WHISPER),
    _wave("wav2vec2_base_full", "Wav2Vec2", "num_labels=35", clip=16000, full=True),
    _wave(
        "hubert_large_full",
        "Hubert",
        "hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096, num_labels=5, "
        "feat_extract_norm='layer', conv_bias=True, do_stable_layer_norm=True",
        clip=12345,
        mask=True,
        full=True,
    ),
    Case(
        "ast_full",
        "transformers.ASTForAudioClassification(transformers.ASTConfig(num_labels=527))",
        {"input_values": ("normal", (1, 1024, 128))},
        {"logits": "y.logits"},
        config=CONFIG,
        full=True,
    ),
    _whisper(
        "whisper_tiny_full",
        "ForAudioClassification",
        (1, 80, 3000),
        {"logits": "y.logits"},
        "encoder.",
        "num_labels=7",
        full=True,
    ),
]
