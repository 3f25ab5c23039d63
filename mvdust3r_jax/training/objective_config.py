"""What is trained for: weights of the terms, and how much of each sample is rendered."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from flax.core import FrozenDict

from mvdust3r_jax.splat.pointmaps import MAX_SCALE


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """Weights by the names of terms (see `objective`).

    A term without weight is not in the program, but for ``objective.ALWAYS``, which are logged.

    num_refs: paths R, at most the number of input views. num_targets: render-only views T at the
    end of each sample. render_paths, render_views: how many paths and views are rendered in each
    step, drawn at random; 0 = all. sh_degree, max_scale: the network's.
    """

    num_refs: int = 1
    num_targets: int = 0
    weights: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"confidence": 1.0})
    render_paths: int = 0
    render_views: int = 0
    sh_degree: int = 0
    max_scale: float = MAX_SCALE

    def __post_init__(self):
        least = {"num_refs": 1, "num_targets": 0, "render_paths": 0, "render_views": 0}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise ValueError(f"{name} must be at least {smallest}, got {getattr(self, name)}")
        used = {name: float(weight) for name, weight in self.weights.items() if weight}
        wrong = [f"{name} = {weight}" for name, weight in used.items() if not 0 < weight < math.inf]
        if wrong:
            raise ValueError(
                f"weights of loss terms must be finite and at least 0, got {', '.join(wrong)}"
            )
        # Hashable, as what a compiled program is made for must be.
        object.__setattr__(self, "weights", FrozenDict(used))
        if "sh_color" in used and not self.sh_degree:
            raise ValueError(
                f"sh_color = {used['sh_color']} needs sh_degree > 0: of degree 0 every Gaussian "
                "has its pixel's color already"
            )
