"""What an evaluation asks of its data: trajectories by id, in batches of equal size."""

from __future__ import annotations

import collections
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from absl import logging

from mvdust3r_jax.types import Batch


class Unreadable(ValueError):
    """A trajectory with a frame that cannot be read; the message names it."""


@runtime_checkable
class EvalSet(Protocol):
    """A data set that is evaluated on.

    size: (height, width) of its images. split: which one it is of, '' where that means nothing.
    ``ids(V, T)`` are the trajectories with that many input and
    render-only views, ValueError where there is none; ``load(ids, V, T)`` is a Batch of them in
    NumPy, or raises `Unreadable`.
    """

    name: str
    size: tuple[int, int]
    split: str

    def ids(self, num_inputs: int, num_targets: int, /) -> Sequence[str]:
        """Trajectories, always the same ones in the same order."""

    def load(self, ids: Sequence[str], num_inputs: int, num_targets: int, /) -> Batch:
        """The inputs first, in the order in which they are shown; then the render-only views."""


def batches_of(
    data: EvalSet, ids: Sequence[str], num_inputs: int, num_targets: int, size: int
) -> Iterator[tuple[list[str], Batch]]:
    """(ids, Batch) with exactly ``size`` samples; the last one is filled by repetition.

    Trajectories that cannot be read are named and left out.
    """
    for start in range(0, len(ids), size):
        chunk = list(ids[start : start + size])
        try:
            yield chunk, data.load(_filled(chunk, size), num_inputs, num_targets)
        except Unreadable:
            chunk = [i for i in chunk if _readable(data, i, num_inputs, num_targets)]
            if chunk:
                yield chunk, data.load(_filled(chunk, size), num_inputs, num_targets)


def _filled(chunk: list[str], size: int) -> list[str]:
    return chunk + [chunk[-1]] * (size - len(chunk))


def _readable(data: EvalSet, name: str, num_inputs: int, num_targets: int) -> bool:
    try:
        data.load([name], num_inputs, num_targets)
    except Unreadable as error:
        logging.warning("%s: %s is left out: %s", data.name, name, error)
        return False
    return True


def save_split(path: Path, name: str, ids: Sequence[str], split: str = "") -> None:
    """Writes the ids of a set, one JSON object; ``split``: the one that they are of, '' unknown."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"dataset": name, "split": split, "ids": list(ids)}
    path.write_text(json.dumps(content, indent=1) + "\n")


def read_split(path: Path, name: str = "", split: str = "") -> list[str]:
    """The ids in a split file, in its order.

    name, split: the set and the split that the file must be of, if it says of which it is.

    Raises:
      ValueError: no split file, that of another set or split, or an id that stands there twice.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no split file: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("ids"), list):
        raise ValueError(f"{path} is no split file: expected an object with a list 'ids'")
    of = content.get("dataset", name)
    if name and of != name:
        raise ValueError(f"{path} is of the data set {of!r}, expected one of {name!r}")
    part = content.get("split") or split
    if split and part != split:
        raise ValueError(f"{path} is of the split {part!r}, expected one of {split!r}")
    ids = [str(i) for i in content["ids"]]
    twice = [i for i, count in collections.Counter(ids).items() if count > 1]
    if twice:
        raise ValueError(f"{path} lists {twice[0]!r} more than once")
    return ids


def ids_digest(ids: Sequence[str]) -> str:
    """Tells trajectories from other ones; their order does not matter."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()[:16]
