"""What a page is made of: sections of sentences, plots, tables and examples."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from flaxtl.report import plots


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells as they are shown; a folded table opens when it is clicked."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    folded: bool = False


@dataclasses.dataclass(frozen=True)
class Plot:
    """A plot in the colours of a light and a dark page, as data URIs, and the sentence that stands for it."""

    alt: str
    light: str
    dark: str


@dataclasses.dataclass(frozen=True)
class Shown:
    """One example: its picture as a data URI or its text, and what is said of it."""

    key: str
    said: str
    picture: str = ""
    text: str = ""


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and what stands below it, in the order of the fields."""

    title: str
    said: tuple[str, ...] = ()
    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()
    examples: tuple[Shown, ...] = ()
    code: str = ""
    folded: bool = False


def illustrated(
    title: str, said: Sequence[str], alt: str, draw: Callable[..., Any], arguments: Sequence[Any], table: Table
) -> Section:
    """Returns a section of a plot with its numbers folded below it; of the numbers alone without matplotlib."""
    if not plots.available():
        return Section(title, tuple(said), tables=(table,))
    drawn = plots.svg(draw(*arguments))
    plot = Plot(
        alt, data_uri("image/svg+xml", drawn.encode()), data_uri("image/svg+xml", plots.on_dark(drawn).encode())
    )
    return Section(title, tuple(said), (plot,), (dataclasses.replace(table, folded=True),))


def data_uri(kind: str, content: bytes) -> str:
    """Returns content as a URI that holds it.

    Example:
        >>> data_uri('text/plain', b'a')
        'data:text/plain;base64,YQ=='
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def percent(value: float | None, error: float | None = None) -> str:
    """Returns a share as people read it.

    Example:
        >>> percent(0.876, 0.021), percent(None)
        ('87.6% ± 2.1', '–')
    """
    if value is None or value != value:
        return "–"
    return f"{value:.1%}" + ("" if error is None else f" ± {100 * error:.1f}")


def number(value: float | None, error: float | None = None, form: str = ".3f") -> str:
    """Returns a number and its error, or a dash where there is none."""
    if value is None or value != value:
        return "–"
    return f"{value:{form}}" + ("" if error is None else f" ± {error:{form}}")
