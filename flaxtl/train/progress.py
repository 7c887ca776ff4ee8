"""The progress bar of a training phase: loss, throughput, time left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Reporter(Protocol):
    """What the loop tells its progress to."""

    def __call__(self, step: int, text: str) -> None:
        """Shows that `step` steps are done."""


@contextmanager
def progress_bar(name: str, steps: int, *, first: int = 0, shown: bool = True) -> Iterator[Reporter]:
    """Yields a function (step, text) that moves the bar; it does nothing when not shown or not on a terminal."""
    if not shown:
        yield lambda step, text: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(name, total=steps, completed=first, text="")
        yield lambda step, text: progress.update(task, completed=step, text=text)
