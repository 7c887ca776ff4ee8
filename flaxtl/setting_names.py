"""What settings are called elsewhere: from a name of Keras, fastai, timm, Lightning or transformers to flaxtl's own."""

from __future__ import annotations

from collections.abc import Callable, Collection

from flaxtl.errors import listed, nearest

# The first of each that a command has is proposed.
_OTHER_NAMES: dict[str, str] = {
    # Length and batches
    "bs": "batch_size",
    "batch": "batch_size",
    "mini_batch_size": "batch_size",
    "per_device_train_batch_size": "batch_size",
    "per_device_eval_batch_size": "batch_size",
    "train_batch_size": "batch_size",
    "eval_batch_size": "batch_size",
    "epoch": "epochs",
    "n_epoch": "epochs",
    "n_epochs": "epochs",
    "nb_epoch": "epochs",
    "num_epochs": "epochs",
    "max_epochs": "epochs",
    "num_train_epochs": "epochs",
    "passes": "epochs",
    "gradient_accumulation_steps": "microbatch",
    "accumulate_grad_batches": "microbatch",
    "grad_accum_steps": "microbatch",
    "micro_batch_size": "microbatch",
    "eval_steps": "save_every",
    "save_steps": "save_every",
    "eval_every": "save_every",
    "eval_strategy": "save_every",
    "checkpoint_every": "save_every",
    "checkpoint_freq": "save_every",
    "logging_steps": "save_every",
    "val_check_interval": "save_every",
    "early_stopping": "patience",
    "early_stopping_patience": "patience",
    "early_stop": "patience",
    "metric_for_best_model": "monitor",
    "eval_metric": "monitor",
    "metric": "monitor",
    "metrics": "monitor",
    # Optimizer
    "lr": "learning_rate",
    "eta": "learning_rate",
    "lr_max": "learning_rate",
    "max_lr": "learning_rate",
    "base_lr": "learning_rate",
    "lr_base": "learning_rate",
    "init_lr": "learning_rate",
    "learningrate": "learning_rate",
    "head_lr": "head_rate",
    "lr_head": "head_rate",
    "head_learning_rate": "head_rate",
    "classifier_lr": "head_rate",
    "wd": "weight_decay",
    "decay": "weight_decay",
    "l2": "weight_decay",
    "weight_decay_rate": "weight_decay",
    "opt": "optimizer",
    "opt_func": "optimizer",
    "optim": "optimizer",
    "optimiser": "optimizer",
    "clip": "clip_norm",
    "clipnorm": "clip_norm",
    "clip_grad": "clip_norm",
    "grad_clip": "clip_norm",
    "max_grad_norm": "clip_norm",
    "gradient_clip_val": "clip_norm",
    "gradient_clip": "clip_norm",
    "sched": "schedule",
    "scheduler": "schedule",
    "lr_schedule": "schedule",
    "lr_scheduler": "schedule",
    "lr_scheduler_type": "schedule",
    "warmup_ratio": "warmup",
    "warmup_steps": "warmup",
    "warmup_epochs": "warmup",
    "pct_start": "warmup",
    "llrd": "layer_decay",
    "layerwise_lr_decay": "layer_decay",
    "smoothing": "label_smoothing",
    "label_smoothing_factor": "label_smoothing",
    "model_ema": "ema",
    "ema_decay": "ema",
    "class_weights": "class_weight",
    # Data
    "val": "validation",
    "valid": "validation",
    "val_split": "validation",
    "validation_split": "validation",
    "validation_data": "validation",
    "val_size": "validation",
    "val_fraction": "validation",
    "valid_pct": "validation",
    "eval_dataset": "validation",
    "eval_data": "validation",
    "test_data": "test",
    "test_dataset": "test",
    "test_set": "test",
    "test_ds": "test",
    "img_size": "size",
    "image_size": "size",
    "input_size": "size",
    "resolution": "size",
    "crop_size": "size",
    "shots": "examples_per_class",
    "k_shot": "examples_per_class",
    "n_per_class": "examples_per_class",
    "samples_per_class": "examples_per_class",
    "max_samples": "limit",
    "max_train_samples": "limit",
    "num_samples": "limit",
    "max_examples": "limit",
    "n_samples": "limit",
    "label": "label_column",
    "labels": "label_column",
    "target": "label_column",
    "targets": "label_column",
    "label_col": "label_column",
    "target_column": "label_column",
    "class_column": "label_column",
    "text": "input_column",
    "text_col": "input_column",
    "image_column": "input_column",
    "path_column": "input_column",
    "feature_columns": "input_column",
    "column": "input_column",
    "groups": "group_by",
    "group": "group_by",
    "group_column": "group_by",
    "problem_type": "task",
    "loss": "task",
    "multi_label": "task",
    "ignore_errors": "on_bad_file",
    "skip_bad_files": "on_bad_file",
    # Augmentation
    "augmentation": "augment",
    "augmentations": "augment",
    "aug": "augment",
    "data_augmentation": "augment",
    "transforms": "augment",
    "transform": "augment",
    "aa": "rand_augment",
    "auto_augment": "rand_augment",
    "randaugment": "rand_augment",
    "hflip": "flip",
    "horizontal_flip": "flip",
    "random_flip": "flip",
    "do_flip": "flip",
    "rotation": "degrees",
    "rotate": "degrees",
    "rotation_range": "degrees",
    "random_rotation": "degrees",
    "translate": "shift",
    "width_shift_range": "shift",
    "height_shift_range": "shift",
    "zoom_range": "zoom",
    "scale": "crop_scale",
    "random_resized_crop": "crop_scale",
    "mixup_alpha": "mixup",
    "cutmix_alpha": "cutmix",
    "spec_augment": "time_masks",
    "freq_masks": "frequency_masks",
    # What is trained
    "mode": "strategy",
    "method": "strategy",
    "freeze": "strategy",
    "freeze_backbone": "strategy",
    "freeze_base": "strategy",
    "unfreeze": "strategy",
    "linear_probe": "strategy",
    "train_backbone": "strategy",
    "freeze_until": "cut",
    "freeze_layers": "cut",
    "freeze_at": "cut",
    "layers": "trainable",
    "train_layers": "trainable",
    "trainable_layers": "trainable",
    "lora_r": "lora_rank",
    "r": "lora_rank",
    "rank": "lora_rank",
    "target_modules": "lora_patterns",
    "temperature": "contrast_temperature",
    # The run
    "output": "out",
    "output_dir": "out",
    "output_path": "out",
    "outdir": "out",
    "save_dir": "out",
    "save_path": "out",
    "save_to": "out",
    "log_dir": "out",
    "logdir": "out",
    "checkpoint_dir": "out",
    "default_root_dir": "out",
    "path": "out",
    "random_state": "seed",
    "random_seed": "seed",
    "rng": "seed",
    "resume_from": "resume",
    "resume_from_checkpoint": "resume",
    "continue": "resume",
    "ckpt_path": "resume",
    "force": "overwrite",
    "exist_ok": "overwrite",
    "overwrite_output_dir": "overwrite",
    "cache_dir": "cache",
    "devices": "parallel",
    "gpus": "parallel",
    "ngpu": "parallel",
    "num_gpus": "parallel",
    "fsdp": "parallel",
    "distributed": "parallel",
    "max_memory": "memory_gigabytes",
    "memory": "memory_gigabytes",
    "time_limit": "budget",
    "max_time": "budget",
    "max_seconds": "budget",
    # The network
    "arch": "variant",
    "architecture": "variant",
    "backbone": "variant",
    "model": "pretrained",
    "model_name": "pretrained",
    "model_name_or_path": "pretrained",
    "base_model": "pretrained",
    "base": "pretrained",
    "weights": "pretrained",
    "checkpoint": "pretrained",
    "pretrained_model": "pretrained",
    "from_": "pretrained",
    "from": "pretrained",
    "from_pretrained": "pretrained",
    "init_from": "pretrained",
}

# What no setting is for, and what to do instead.
_NO_SETTING: dict[str, str] = {
    **dict.fromkeys(
        ("device", "accelerator", "use_gpu", "cuda", "cpu", "gpu", "no_cuda", "tpu", "use_cpu"),
        "JAX chooses the device: set the environment variable JAX_PLATFORMS, for example to cpu.",
    ),
    **dict.fromkeys(
        ("dropout", "dropout_rate", "drop", "drop_rate", "head_dropout", "drop_path", "hidden_dropout_prob"),
        "Dropout is part of the pretrained network; to regularise, set `weight_decay`, `label_smoothing` or `mixup`.",
    ),
    **dict.fromkeys(
        ("num_workers", "workers", "dataloader_num_workers", "n_jobs", "num_proc", "prefetch"),
        "Examples are read by as many threads as there are processors.",
    ),
    **dict.fromkeys(
        ("fp16", "bf16", "amp", "precision", "dtype", "mixed_precision", "half"),
        "The dtype of the computation is part of a network's settings on its card.",
    ),
    **dict.fromkeys(
        ("num_classes", "n_classes", "nb_classes", "num_labels", "n_out", "classes_count"),
        "The number of classes is counted from the data.",
    ),
    **dict.fromkeys(
        ("shuffle", "drop_last", "pin_memory"), "Training data is always shuffled, and no example is left out."
    ),
    **dict.fromkeys(("verbose", "quiet", "silent", "progress", "progress_bar"), "Python calls show no progress bar."),
    **dict.fromkeys(
        ("callbacks", "callback", "cbs", "hooks", "loss_fn", "criterion"),
        "For a loop of your own use flaxtl.train.make_step.",
    ),
}

# Values of settings by the names that they have elsewhere.
_OTHER_VALUES: dict[str, str] = {
    "linear": "head",
    "linear_probe": "head",
    "linear_probing": "head",
    "probe": "head",
    "feature_extraction": "head",
    "frozen": "head",
    "finetune": "full",
    "fine_tune": "full",
    "finetuning": "full",
    "full_finetune": "full",
    "full_finetuning": "full",
    "all": "full",
    "lp_ft": "lpft",
    "lpft_": "lpft",
    "from_scratch": "scratch",
    "random": "scratch",
    "peft": "lora",
    "gradual_unfreezing": "gradual",
    "supcon": "contrastive",
    "adam": "adamw",
    "momentum": "sgd",
    "nesterov": "sgd",
    "cos": "cosine",
    "cosine_decay": "cosine",
    "one_cycle": "cosine",
    "none": "constant",
    "balanced": "auto",
    "val_loss": "loss",
    "eval_loss": "loss",
    "acc": "accuracy",
    "val_acc": "accuracy",
    "val_accuracy": "accuracy",
    "ignore": "skip",
    "warn": "skip",
    "raise": "error",
    "multi_label": "multilabel",
    "single_label_classification": "classification",
    "multiclass": "classification",
    "binary": "classification",
    "multi_label_classification": "multilabel",
    "numeric": "regression",
    "knn": "mean",
    "centroid": "mean",
    "logreg": "logistic",
    "logistic_regression": "logistic",
}


def _plain(name: str) -> str:
    return name.strip("-").replace("-", "_").lower()


def meant_by(name: str) -> str:
    """Returns the setting that a name of another library stands for, or the name itself.

    Example:
        >>> meant_by('lr'), meant_by('seed')
        ('learning_rate', 'seed')
    """
    return _OTHER_NAMES.get(_plain(name), name)


def instead_of(name: str, known: Collection[str], form: Callable[[str], str] = "`{}`".format) -> str:
    """Returns what to write in place of a setting that does not exist: a sentence or two with a space before, or "".

    Args:
        name: that does not exist.
        known: the settings that there are.
        form: how a setting is written.

    Example:
        >>> instead_of('lr', ['learning_rate', 'seed']), instead_of('seeds', ['learning_rate', 'seed'])
        (' Did you mean `learning_rate`?', ' Did you mean `seed`?')
    """
    plain = _plain(name)
    there = [other for other in known if other != name]
    if plain in _NO_SETTING:
        return f" {_NO_SETTING[plain]}"
    meant = meant_by(name)
    near = [meant] if meant in there else nearest(name, there)
    if near:
        return f" Did you mean {' or '.join(map(form, near))}?"
    return f" There are {listed(map(form, there))}."


def choice_instead_of(value: object, choices: Collection[object]) -> str:
    """Returns ' Did you mean …?' for a value that is none of a setting's choices, or "".

    Example:
        >>> choice_instead_of('linear_probe', ['head', 'full']), choice_instead_of('fulll', ['head', 'full'])
        (" Did you mean 'head'?", " Did you mean 'full'?")
    """
    if not isinstance(value, str):
        return ""
    words = [choice for choice in choices if isinstance(choice, str) and choice != value]
    meant = _OTHER_VALUES.get(_plain(value))
    near = [meant] if meant in words else nearest(value, words)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
