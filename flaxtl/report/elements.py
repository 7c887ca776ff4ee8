"""The elements of a page: sections of sentences, plots, tables and examples."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from flaxtl.report import plots


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells as they are shown.

    Attributes:
        head: names of the columns.
        rows: the cells.
        caption: what the table holds.
        folded: whether it opens only when it is clicked.
        names: how many of the first columns hold names, which may be long and are broken.
        stacked: whether the last column is a sentence, which stands below the others where the page is narrow.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    folded: bool = False
    names: int = 1
    stacked: bool = False


@dataclasses.dataclass(frozen=True)
class Plot:
    """A plot in the colours of a light and a dark page, as data URIs.

    Attributes:
        alt: the sentence that stands for it.
        light, dark: the plot.
        width: of the plot in CSS pixels; below a share of it its text would be too small to read.
    """

    alt: str
    light: str
    dark: str
    width: int = 0


@dataclasses.dataclass(frozen=True)
class Shown:
    """One example.

    Attributes:
        key: what identifies it.
        name: the key without the folders that it shares with all others.
        caption: what is said of it.
        picture, sound: its content as a data URI.
        text: its content.
    """

    key: str
    name: str
    caption: str
    picture: str = ""
    text: str = ""
    sound: str = ""


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and what stands below it, in the order of the fields; the mark stands beside the heading."""

    title: str
    sentences: tuple[str, ...] = ()
    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()
    examples: tuple[Shown, ...] = ()
    code: str = ""
    folded: bool = False
    mark: str = ""

    @property
    def empty(self) -> bool:
        """Whether nothing stands below the heading."""
        return not (self.sentences or self.plots or self.tables or self.examples or self.code)


def illustrated(
    title: str,
    sentences: Sequence[str],
    alt: str,
    draw: Callable[..., Any],
    arguments: Sequence[Any],
    table: Table,
    *,
    folded: bool = True,
) -> Section:
    """Returns a section of a plot with its numbers below it; without matplotlib of the numbers alone."""
    if not plots.available():
        return Section(title, tuple(sentences), tables=(table,))
    figure = draw(*arguments)
    drawn = plots.svg(figure)
    light, dark = (data_uri("image/svg+xml", text.encode()) for text in (drawn, plots.on_dark(drawn)))
    plot = Plot(alt, light, dark, round(96 * float(figure.get_figwidth())))
    return Section(title, tuple(sentences), (plot,), (dataclasses.replace(table, folded=folded),))


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
