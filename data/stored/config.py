"""What a stream of training batches is made of."""

from __future__ import annotations

import dataclasses
import math

# The name of rooms made on the fly among the sources of a mixture.
ROOMS = "rooms"


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What a stream of batches is made of.

    sources: (folder of a data set, weight) pairs, or ("rooms", weight) for rooms on the fly.
    num_inputs: numbers of views; each batch has one of them, each occurs equally often.
    image_size: (height, width). augment: random resize and color jitter; color, hue: strength.
    shuffle_views: random order of the inputs. baseline: of rooms on the fly, how far apart views
    are (1: a few steps), drawn per batch from this range. threads: that decode. read_ahead: samples
    decoded in advance (memory: 16 bytes a pixel and view).
    """

    sources: tuple[tuple[str, float], ...]
    split: str = "train"
    num_inputs: tuple[int, ...] = (8,)
    num_targets: int = 2
    image_size: tuple[int, int] = (224, 224)
    augment: bool = True
    color: float = 0.5
    hue: float = 0.1
    shuffle_views: bool = True
    baseline: tuple[float, float] = (0.5, 1.5)
    threads: int = 4
    read_ahead: int = 16

    def __post_init__(self):
        wrong = [pair for pair in self.sources if not 0 < pair[1] < math.inf]
        if wrong or not self.sources:
            raise ValueError(
                f"data.mixture must have (folder, weight) pairs with positive weights, got "
                f"{wrong or self.sources}"
            )
        if not self.num_inputs or min(self.num_inputs) < 1 or self.num_targets < 0:
            raise ValueError(
                f"expected views >= 1 and targets >= 0, got {self.num_inputs}, {self.num_targets}"
            )

    @property
    def folders(self) -> tuple[tuple[str, float], ...]:
        """The stored sources."""
        return tuple((name, weight) for name, weight in self.sources if name != ROOMS)

    @property
    def rooms_share(self) -> float:
        """Which share of the batches shows rooms made on the fly."""
        total = sum(weight for _, weight in self.sources)
        return sum(weight for name, weight in self.sources if name == ROOMS) / total
