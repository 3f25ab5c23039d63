"""Values of arguments: what the parser accepts, and what is no usage at all (exit code 2)."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mvdust3r_jax.storage import places

_LAST_PORT = 65535
# Those of reconstruction.network.WORDS
REFERENCES = ("auto", "middle", "first")


class UsageError(ValueError):
    """Arguments that do not go together."""


def positive(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"a positive whole number is expected, got {text!r}")
    return value


def counts(text: str) -> list[int]:
    """Whole numbers of at least 1 with commas between them."""
    return [positive(part.strip()) for part in text.split(",")]


def port(text: str) -> int:
    """A port's number; 0 stands for any free one."""
    if not text.isdecimal() or int(text) > _LAST_PORT:
        raise argparse.ArgumentTypeError(f"a port from 0 to {_LAST_PORT} is expected, got {text!r}")
    return int(text)


def _number(text: str) -> float:
    """NaN for what is no number, which no comparison accepts."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def at_least_zero(text: str) -> float:
    """A finite number that is not negative."""
    if not 0 <= _number(text) < math.inf:
        raise argparse.ArgumentTypeError(f"a number of at least 0 is expected, got {text!r}")
    return float(text)


def above_zero(text: str) -> float:
    """A finite number above 0."""
    if not 0 < _number(text) < math.inf:
        raise argparse.ArgumentTypeError(f"a number above 0 is expected, got {text!r}")
    return float(text)


def share(text: str) -> float:
    """A number from 0 to below 1."""
    if not 0 <= _number(text) < 1:
        raise argparse.ArgumentTypeError(f"a share from 0 to below 1 is expected, got {text!r}")
    return float(text)


def reference(text: str) -> int | str:
    """Read one of ``REFERENCES``, or a photograph's number from 0."""
    if text not in REFERENCES and not text.isdecimal():
        expected = f"{', '.join(REFERENCES)} or a number from 0 is expected"
        raise argparse.ArgumentTypeError(f"{expected}, got {text!r}")
    return text if text in REFERENCES else int(text)


def focal(text: str) -> float | str:
    """A number of pixels, or a word: from EXIF, one for all photographs, one for each."""
    words = ("exif", "one", "each")
    if text not in words and not 0 < _number(text) < math.inf:
        expected = f"a number of pixels or one of {', '.join(words)} is expected"
        raise argparse.ArgumentTypeError(f"{expected}, got {text!r}")
    return text if text in words else float(text)


def size(text: str) -> tuple[int, int]:
    """Read "224" or "224x320" as (height, width)."""
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"a size like 224 or 224x320 is expected, got {text!r}")
    return int(parts[0]), int(parts[-1])


def local_path(text: str) -> Path:
    """A path of this machine; an address in a bucket is an error, not a folder of that name."""
    return _place(places.local_path, text)


def any_path(text: str) -> Any:
    """A path of this machine, or in a bucket (``gs://...``)."""
    return _place(places.as_path, text)


def _place(kind: Callable[[str], Any], text: str) -> Any:
    try:
        return kind(text)
    except places.PlaceError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
