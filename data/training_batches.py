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


def make_source(
    source: str, *, batch_size: int, process_index: int, process_count: int, **settings: Any
) -> Source:
    """``batch_size`` counts the samples of all processes together.

    Raises:
      ValueError: unknown source, or a batch that the processes cannot share evenly.
    """
    if batch_size % process_count:
        raise ValueError(
            f"data.batch_size = {batch_size} cannot be shared by {process_count} processes"
        )
    place = {"process_index": process_index, "process_count": process_count}
    settings |= {"batch_size": batch_size // process_count} | place
    # Only stored data sets have these; the other sources compute every batch when it is asked for.
    names = {"mixture", "threads", "read_ahead"} & set(settings)
    stored = {name: settings.pop(name) for name in names}
    if source == "records":
        from data.stored.stream import records_source

        return records_source(**stored, **settings)
    if source == "box":
        from data.box import BoxSource

        del settings["baseline"]
        return BoxSource(**settings)
    if source == "rooms":
        from data.rooms.stream import RoomsSource

        return RoomsSource(**settings)
    raise ValueError(f"data.source must be 'box', 'rooms' or 'records', got {source!r}")
