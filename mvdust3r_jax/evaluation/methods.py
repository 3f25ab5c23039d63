"""The methods of an evaluation: one table, a row each; what a row needs, and how it answers.

A new method is a function of a `Job` (or a row with other options of one that is here) and a row
of ``METHODS``; docs/extending.md follows an example.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from mvdust3r_jax.evaluation import baselines, networks
from mvdust3r_jax.evaluation.devices import Devices
from mvdust3r_jax.evaluation.estimate import Estimate, add_poses, first_view
from mvdust3r_jax.evaluation.windows import predict_in_windows
from mvdust3r_jax.models.config import ModelConfig
from mvdust3r_jax.models.network import Network
from mvdust3r_jax.types import Batch, Prediction


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a method needs to know besides its network.

    num_refs: references of methods of several paths, at most ``num_inputs``. at_once: views that
    ``mvd_windows`` takes at a time. graph, window, steps, pairs_at_once: of the pairwise baseline.
    splat_px: size of the Gaussians of 'points', see `baselines.fixed_splats`. mean: mean pointmaps
    [V, H, W, 3] of the training split, for the method 'mean'.
    """

    num_inputs: int
    num_refs: int
    at_once: int
    graph: str
    window: int
    steps: int
    pairs_at_once: int
    splat_px: float
    mean: np.ndarray | None = None


@dataclasses.dataclass
class Job:
    """A method at work on one batch, and the seconds of its stages and of compiling them."""

    devices: Devices
    batch: Batch
    settings: Settings
    network: Network | None = None
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    compile_s: dict[str, float] = dataclasses.field(default_factory=dict)

    def run(self, stage: str, function: Callable, *batches: Any, constants: tuple = (), **options):
        """``function(*constants, *batches, **options)`` on the devices, timed as this stage."""
        timed = self.devices.run(function, batches, constants, **options)
        self.seconds[stage], self.compile_s[stage] = timed.seconds, timed.compile_s
        return timed.result

    def predict(self, function: Callable, **options: Any) -> Any:
        """``function(variables, batch, ...)`` of the network and the input views."""
        options |= {"config": self.network.config, "num_inputs": self.settings.num_inputs}
        constants = (self.network.variables,)
        return self.run("network", function, self.batch, constants=constants, **options)

    def refs(self) -> int:
        """References of a pass in which paths look at each other; 1 where they cannot."""
        return self.settings.num_refs if self.network.config.cross_ref else 1

    def posed(self, prediction: Prediction, reference: jax.Array | None = None) -> Estimate:
        """The answer: a prediction with cameras; by default view 0 is the reference."""
        if reference is None:
            reference = self.devices.place(first_view(self.batch), spread=True)
        return self.run("pose", add_poses, prediction, self.batch, reference)


# ---------------------------------------------------------------- how methods answer


def _without_network(job: Job, make: Callable) -> Estimate:
    views = job.settings.num_inputs
    return job.posed(job.run("network", make, job.batch, num_inputs=views))


def _training_mean(job: Job) -> Estimate:
    options = {"constants": (job.settings.mean,), "num_inputs": job.settings.num_inputs}
    return job.posed(job.run("network", baselines.mean_prediction, job.batch, **options))


def _one_path(job: Job) -> Estimate:
    return job.posed(job.predict(networks.predict, num_refs=1))


def _first_path(job: Job) -> Estimate:
    return job.posed(job.predict(networks.predict, num_refs=job.refs()))


def _chosen_path(job: Job, choose: Callable) -> Estimate:
    paths = job.predict(networks.predict_all_paths, num_refs=job.refs())
    return job.posed(*job.run("choice", choose, paths, job.batch))


def _surest_view(job: Job) -> Estimate:
    return job.posed(*job.predict(networks.predict_from_surest_view))


def _middle_view(job: Job) -> Estimate:
    return job.posed(*job.predict(networks.predict_from_middle_view))


def _with_mirror(job: Job) -> Estimate:
    return job.posed(*job.predict(networks.predict_with_mirror))


def _in_windows(job: Job) -> Estimate:
    return job.posed(job.predict(predict_in_windows, at_once=job.settings.at_once))


def _points_alone(job: Job) -> Estimate:
    prediction = job.predict(networks.predict, num_refs=job.refs())
    size = {"spread_px": job.settings.splat_px}
    return job.posed(job.run("splats", baselines.fixed_splats, prediction, job.batch, **size))


def _pairwise(job: Job) -> Estimate:
    s = job.settings
    graph = {"graph": s.graph, "window": s.window, "pairs_at_once": s.pairs_at_once}
    pairs = job.predict(networks.predict_scene_pairs, **graph)
    align, options = networks.align_scene_pairs, {"num_inputs": s.num_inputs, "steps": s.steps}
    return job.run("alignment", align, pairs, job.batch, **options)


# ---------------------------------------------------------------- the table


class Needs(enum.Enum):
    """What a method cannot do without."""

    NOTHING = "nothing"
    TRAINING_MEAN = "the training split of the data"
    WEIGHTS = "a network"
    PATHS = "a network with cross-reference blocks"
    PAIRS = "a network, best one that was trained on pairs"


@dataclasses.dataclass(frozen=True)
class Method:
    """A row of the table: ``answer(job, **options)`` is the method's `Estimate` of a batch.

    knows_truth: it looks at the truth, so nobody is compared with it.
    """

    name: str
    help: str
    answer: Callable[..., Estimate]
    needs: Needs = Needs.WEIGHTS
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    knows_truth: bool = False

    @property
    def takes_network(self) -> bool:
        """Whether it runs a network."""
        return self.needs not in (Needs.NOTHING, Needs.TRAINING_MEAN)

    def estimate(self, job: Job) -> Estimate:
        """Its answer for the job's batch."""
        return self.answer(job, **self.options)


_TABLE = (
    Method(
        "constant", "the same flat wall in front of every view", _without_network,
        Needs.NOTHING, {"make": baselines.constant_prediction},
    ),
    Method("mean", "the training split's mean pointmaps", _training_mean, Needs.TRAINING_MEAN),
    Method(
        "oracle", "the truth as if it had been predicted", _without_network,
        Needs.NOTHING, {"make": baselines.oracle_prediction}, knows_truth=True,
    ),
    Method("mvd", "one path, view 0 is the reference", _one_path),
    Method("mvd_auto", "one path, every view tried, the surest one's taken", _surest_view),
    Method("mvd_middle", "one path from the view that is most like all others", _middle_view),
    Method("mvd_mirrored", "mvd_middle, its mean with that of the mirror images", _with_mirror),
    Method("mvd_windows", "one path of a few views at a time, joined", _in_windows),
    Method("mvdp", "several paths, the first one counts", _first_path, Needs.PATHS),
    Method(
        "mvdp_auto", "several paths, the surest one counts", _chosen_path,
        Needs.PATHS, {"choose": networks.surest},
    ),
    Method(
        "mvdp_best", "several paths, the one nearest to the truth counts", _chosen_path,
        Needs.PATHS, {"choose": networks.best_path}, knows_truth=True,
    ),
    Method("points", "points of mvdp (or mvd) as opaque Gaussians of one size", _points_alone),
    Method("pairwise", "pairs of views, then global alignment", _pairwise, Needs.PAIRS),
)  # fmt: skip
METHODS: dict[str, Method] = {method.name: method for method in _TABLE}


def why_not(method: Method, config: ModelConfig) -> str:
    """Why a network of this kind cannot serve the method, '' where it can."""
    if method.needs is Needs.PATHS and not config.cross_ref:
        return "the weights have no cross-reference blocks"
    return ""


def is_pairwise(config: ModelConfig) -> bool:
    """Whether a network is of the two-view kind (DUSt3R): no Gaussians, no blocks across paths."""
    return not (config.gaussians or config.cross_ref or config.skip)
