"""What lies beside transformers' weights as JSON, and the settings of config.json that all its networks share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from flaxtl.card import Task
from flaxtl.convert.settings import READ, Setting, irrelevant, only, read_settings, where
from flaxtl.convert.weights import Weights
from flaxtl.errors import CheckpointError


def read_json(file: Path, kind: Literal["dict", "list"] = "dict") -> Any:
    """Returns what a JSON file holds.

    Args:
        file: its place.
        kind: what it must hold.

    Raises:
        CheckpointError: it cannot be read, or holds something else.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}.") from error
    if not isinstance(found, {"dict": dict, "list": list}[kind]):
        raise CheckpointError(f"{file} holds {type(found).__name__}; expected {kind}.")
    return found


def json_settings(weights: Weights, name: str) -> Mapping[str, Any]:
    """Returns the settings in a file beside the weights, or {} where there is none."""
    return read_json(weights.files[name]) if name in weights.files else {}


_PROBLEMS = ("single_label_classification", "multi_label_classification", "regression")
TRAINING = "of training"
# What every config.json of transformers may say. What is missing here, a family lists for itself, or it is refused.
COMMON: dict[str, Setting] = {
    **dict.fromkeys(("model_type", "architectures", "id2label", "label2id", "num_labels", "_num_labels"), READ),
    "problem_type": only(*_PROBLEMS),
    "hidden_act": READ,
    "is_decoder": only(False),
    "add_cross_attention": only(False),
    "pruned_heads": where(lambda v: not v, "heads that are all there"),
    "quantization_config": where(lambda v: not v, "weights that are not quantised"),
    **irrelevant(
        "where the file came from and what wrote it",
        *(
            "_name_or_path",
            "name_or_path",
            "_commit_hash",
            "transformers_version",
            "transformers.js_config",
            "model_name",
        ),
    ),
    **irrelevant("names code that is run only on request", "auto_map", "custom_pipelines"),
    **irrelevant("parameters are float32 here", "torch_dtype", "dtype", "use_bfloat16", "fp16"),
    **irrelevant(
        "what a call returns beside the outputs",
        *("return_dict", "output_attentions", "output_hidden_states", "output_past", "use_cache", "torchscript"),
    ),
    **irrelevant(
        "how the same is computed",
        *("chunk_size_feed_forward", "attn_implementation", "_attn_implementation", "_attn_implementation_internal"),
        *("_attn_implementation_autoset", "attn_impl", "gradient_checkpointing", "reference_compile"),
    ),
    **irrelevant(
        TRAINING,
        *("attention_probs_dropout_prob", "attention_dropout", "classifier_dropout", "hidden_dropout_prob", "dropout"),
        *("initializer_range", "initializer_factor", "drop_path_rate", "finetuning_task", "layerdrop"),
    ),
    **irrelevant(
        "of a decoder or of writing text",
        *("is_encoder_decoder", "tie_encoder_decoder", "cross_attention_hidden_size", "tie_word_embeddings"),
        *("bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id", "mask_token_id", "decoder_start_token_id"),
        *("max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups", "prefix"),
        *("diversity_penalty", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty"),
        *("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences"),
        *("output_scores", "return_dict_in_generate", "forced_bos_token_id", "forced_eos_token_id"),
        *("remove_invalid_values", "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens"),
        *("task_specific_params", "tf_legacy_loss", "forced_decoder_ids", "pad_token_id"),
    ),
    **irrelevant("the tokenizer's own files say it", "tokenizer_class"),
    **irrelevant("of a detector's backbone", "stage_names", "out_features", "out_indices", "_out_features"),
    **irrelevant("of a detector's backbone", "_out_indices", "apply_layernorm", "reshape_hidden_states"),
    **irrelevant("the tensors' shapes say it", "hidden_size", "vocab_size", "intermediate_size", "num_channels"),
    **irrelevant(
        "what turns logits into scores, which comes after them",
        *("sentence_transformers", "sbert_ce_default_activation_function"),
    ),
}


def transformers_config(
    weights: Weights,
    own: Mapping[str, Setting],
    found: Mapping[str, Any] | None = None,
    place: str = "config.json",
) -> dict[str, Any]:
    """Returns what config.json says that can change outputs, after all of it was checked against a closed list.

    Args:
        weights: whose settings are read.
        own: what becomes of a family's own settings; these go before those that all families share.
        found: a part of config.json that is read in its place.
        place: what errors call it.

    Raises:
        CheckpointError: settings that are not known, or have values that are not computed; all are named.
    """
    given = weights.config if found is None else found
    return read_settings(given, {**COMMON, **own}, source=place, ignore=weights.ignore_settings)


def task_of(weights: Weights, outputs: int) -> Task:
    """Returns what the outputs mean, as transformers decides it: a single one is a number."""
    kind = weights.config.get("problem_type")
    if kind == "multi_label_classification":
        return "multilabel"
    return "regression" if kind == "regression" or (outputs == 1 and kind is None) else "classification"
