"""What training asks of its data, part by part; `data.training_batches.Source` is all of it.

The package knows no data set: each of these is what one of its modules needs to be given.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from mvdust3r_jax.types import Batch


@runtime_checkable
class Telling(Protocol):
    """Data that tell where they stand."""

    def get_state(self) -> Any:
        """The position before the next batch; of stored data also what they were made from."""


@runtime_checkable
class Going(Protocol):
    """Data that can go to a position."""

    def set_state(self, state: Any) -> None:
        """Goes to a position that it once told."""


@runtime_checkable
class Known(Telling, Protocol):
    """Data that know what they are.

    epoch_samples: how many stored ones there are; 0 where samples are made and never end.
    """

    epoch_samples: int


@runtime_checkable
class Batches(Known, Protocol):
    """Data to read, from where they stand."""

    def __next__(self) -> tuple[Batch, dict[str, Any]]:
        """This process's share of the next batch, and what is known about it."""
