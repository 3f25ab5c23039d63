"""One name, one source of batches: what ``config.data.source`` may say.

All sources keep one protocol: ``next(source)`` gives ``(Batch, info)`` with arrays of this
process's samples and ``info["ids"]``, one string a sample; ``get_state()`` is the position as
JSON can hold it, before the next batch; ``set_state`` goes there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from mvdust3r_jax.types import Batch


class Source(Protocol):
    """What the training loop needs of its data."""

    def __next__(self) -> tuple[Batch, dict[str, Any]]:
        """The next batch of this process, and what is known about it."""

    def __iter__(self) -> Iterator[tuple[Batch, dict[str, Any]]]:
        """The source itself."""

    def get_state(self) -> Any:
        """The position before the next batch."""

    def set_state(self, state: Any) -> None:
        """Goes to a position."""


_ROOMS_ONLY = {"images_per_step": 0, "reuse": 1, "photographic": 0.0}


def make_source(
    source: str, *, batch_size: int, process_index: int, process_count: int, **settings: Any
) -> Source:
    """``batch_size`` and ``images_per_step`` are those of all processes together.

    Raises:
      ValueError: unknown source, or a batch that the processes cannot share evenly.
    """
    if batch_size % process_count:
        raise ValueError(
            f"data.batch_size = {batch_size} cannot be shared by {process_count} processes"
        )
    of_rooms = {name: settings.pop(name) for name in _ROOMS_ONLY if name in settings}
    if source != "rooms":
        _check_default(source, of_rooms)
    elif images := of_rooms.get("images_per_step", 0):
        _check_shares(images, settings["num_inputs"], process_count)
        of_rooms["images_per_step"] = images // process_count
    settings |= {"batch_size": batch_size // process_count, "process_index": process_index}
    # Only stored data sets have these; the other sources compute every batch when it is asked for.
    names = {"mixture", "threads", "read_ahead"} & set(settings)
    stored = {name: settings.pop(name) for name in names}
    if source == "records":
        from data.pipeline import records_source

        return records_source(process_count=process_count, **stored, **settings)
    if source == "box":
        from data.box import BoxSource

        del settings["baseline"]
        return BoxSource(**settings)
    if source == "rooms":
        from data.rooms_stream import RoomsSource

        return RoomsSource(**of_rooms, **settings)
    raise ValueError(f"data.source must be 'box', 'rooms' or 'records', got {source!r}")


def _check_default(source: str, of_rooms: dict[str, Any]) -> None:
    """Fields that only rooms have must not be set in vain."""
    for name, value in of_rooms.items():
        if value != _ROOMS_ONLY[name]:
            raise ValueError(f"data.{name} = {value} is for data.source 'rooms', got {source!r}")


def _check_shares(images: int, num_inputs: tuple[int, ...], process_count: int) -> None:
    """Each number of views must give whole samples, as many in each process."""
    for views in num_inputs:
        if images % (views * process_count):
            raise ValueError(
                f"data.images_per_step = {images} must be a multiple of {views} views x "
                f"{process_count} processes"
            )
