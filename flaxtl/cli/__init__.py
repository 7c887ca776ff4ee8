"""The `flaxtl` command: finetune, pretrain, evaluate, predict, inspect, demo."""

from __future__ import annotations

from flaxtl.cli.main import main

__all__ = ["main"]
