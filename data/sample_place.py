"""Where a run stands in an endless stream of numbered samples."""

from __future__ import annotations


class SamplePlace:
    """Which samples of an endless numbered stream this process's next batch holds.

    The position is that of the whole run: how many batches and how many samples all processes have
    seen. So a run may go on with another number of processes, or another batch size, and every
    sample still comes once.
    """

    def __init__(self, batch_size: int, process_index: int = 0, process_count: int = 1):
        self._own, self._process, self._count = batch_size, process_index, process_count
        self._next, self._sample = 0, 0

    @property
    def index(self) -> int:
        """Number of the next batch."""
        return self._next

    def advance(self, own: int | None = None) -> tuple[int, list[int]]:
        """Number of the next batch, and the numbers of this process's samples in it.

        own: how many samples each process has in this batch, where that is not the batch size.
        """
        own = self._own if own is None else own
        index, first = self._next, self._sample + own * self._process
        self._next, self._sample = index + 1, self._sample + own * self._count
        return index, list(range(first, first + own))

    def get_state(self) -> dict[str, int]:
        """Batches and samples before the next batch."""
        return {"next": self._next, "sample": self._sample}

    def set_state(self, state: dict[str, int]) -> None:
        """Goes to a position; those of older checkpoints count batches of this run's size."""
        self._next = int(state["next"])
        self._sample = int(state.get("sample", self._next * self._own * self._count))
