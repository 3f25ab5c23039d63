"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def row(cells: Iterable[object]) -> str:
    """One line of a table."""
    return "| " + " | ".join(map(str, cells)) + " |"


def head(names: Sequence[str]) -> str:
    """The two lines that a table begins with."""
    return f"{row(names)}\n{row(['---'] * len(names))}"


def table(names: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """Heading and rows, without a newline at the end."""
    return "\n".join([head(names), *map(row, rows)])
