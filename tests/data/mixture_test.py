"""A mixture of sources: what its position says."""

from data.mixture import MixedIterator


class Counted:
    """Batches of so many samples."""

    def __init__(self, size):
        self.size, self.sample = size, 0

    def __next__(self):
        self.sample += self.size
        return self.sample

    def get_state(self):
        return {"sample": self.sample}

    def set_state(self, state):
        self.sample = state["sample"]


def test_the_position_counts_the_samples_of_all_parts():
    """Epochs of a run that goes on are counted from them."""

    def mixed():
        return MixedIterator([Counted(2), Counted(2)], [0.5, 0.5], seed=0)

    stream, again = mixed(), mixed()
    for _ in range(5):
        next(stream)
    assert stream.get_state()["sample"] == 10
    again.set_state(stream.get_state())
    assert again.get_state() == stream.get_state()
