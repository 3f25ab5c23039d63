"""One name, one source of batches: what ``config.data.source`` may say.

All sources keep one protocol: ``next(source)`` gives ``(Batch, info)`` with arrays of this
process's samples and ``info["ids"]``, one string a sample; ``get_state()`` is the position as
JSON can hold it, before the next batch; ``set_state`` goes there. ``epoch_samples`` is 0 for
samples that are made and never end.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

from mvdust3r_jax.types import Batch


@runtime_checkable
class Source(Protocol):
    """What the training loop needs of its data.

    epoch_samples: of all processes in an epoch; 0 where samples are made and never end.
    """

    epoch_samples: int

    def __next__(self) -> tuple[Batch, dict[str, Any]]:
        """The next batch of this process, and what is known about it."""

    def __iter__(self) -> Iterator[tuple[Batch, dict[str, Any]]]:
        """The source itself."""

    def get_state(self) -> Any:
        """The position before the next batch."""

    def set_state(self, state: Any) -> None:
        """Goes to a position."""


class Kind(NamedTuple):
    """A kind of source: where its class or function is, and which fields of ``data`` are its own.

    own: field -> the value that means it is not used, for fields that no other kind has; another
    value is refused elsewhere. unused: fields that say nothing here.
    """

    place: str
    own: dict[str, Any] = {}
    unused: tuple[str, ...] = ()


_STORED = ("mixture", "threads", "read_ahead")
# A new source is a row here; its fields stand in configs/defaults.py.
SOURCES = {
    "rooms": Kind(
        "data.rooms.stream.RoomsSource",
        own={
            "images_per_step": 0,
            "reuse": 1,
            "recolor": 0.0,
            "photographic": 0.0,
            "options": {},
        },
        unused=_STORED,
    ),
    "records": Kind("data.mixture.records_source", own={"augment": True}),
    "box": Kind("data.box.BoxSource", unused=(*_STORED, "baseline")),
}


def make_source(
    source: str, *, batch_size: int, process_index: int, process_count: int, **settings: Any
) -> Source:
    """``batch_size`` and ``images_per_step`` are those of all processes together.

    Raises:
      ValueError: unknown source, a field set that it does not have, or a batch that the processes
      cannot share evenly.
    """
    if source not in SOURCES:
        names = ", ".join(map(repr, sorted(SOURCES)))
        raise ValueError(f"data.source must be one of {names}, got {source!r}")
    if batch_size % process_count:
        raise ValueError(
            f"data.batch_size = {batch_size} cannot be shared by {process_count} processes"
        )
    kind = SOURCES[source]
    for other, name, default in _foreign_fields(source):
        if settings.pop(name, default) != default:
            raise ValueError(f"data.{name} is for data.source {other!r}, got {source!r}")
    settings = {name: value for name, value in settings.items() if name not in kind.unused}
    if images := settings.get("images_per_step", 0):
        _check_shares(images, settings["num_inputs"], process_count)
        settings["images_per_step"] = images // process_count
    module, _, name = kind.place.rpartition(".")
    return getattr(importlib.import_module(module), name)(
        batch_size=batch_size // process_count,
        process_index=process_index,
        process_count=process_count,
        **settings,
    )


def _foreign_fields(source: str) -> list[tuple[str, str, Any]]:
    """Kind, name and unused value of the fields that only other sources have."""
    others = [(name, kind) for name, kind in SOURCES.items() if name != source]
    return [(name, *field) for name, kind in others for field in kind.own.items()]


def _check_shares(images: int, num_inputs: tuple[int, ...], process_count: int) -> None:
    """Each number of views must give whole samples, as many in each process."""
    for views in num_inputs:
        if images % (views * process_count):
            raise ValueError(
                f"data.images_per_step = {images} must be a multiple of {views} views x "
                f"{process_count} processes"
            )
