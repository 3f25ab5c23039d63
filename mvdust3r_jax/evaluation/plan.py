"""An evaluation before anything is computed: what is done, with what, and whether it can be done.

Plain values in, a checked `Plan` out; nothing is written. Every fault is a ValueError of one line.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mvdust3r_jax.evaluation.judge import CHAMFER
from mvdust3r_jax.evaluation.methods import METHODS, Needs, Settings, is_pairwise, why_not
from mvdust3r_jax.evaluation.sets import EvalSet
from mvdust3r_jax.models.network import Network
from mvdust3r_jax.pairwise.alignment_start import GRAPHS

_LEAST = {"num_refs": 1, "window": 3, "mean_samples": 1, "pairwise_window": 1, "pairwise_steps": 0}
_LEAST |= {"pairwise_batch": 1, "batch_per_device": 1, "devices": 0, "pictures": 0}
_CHOICES = {"pairwise_graph": GRAPHS, "chamfer": CHAMFER}


@dataclasses.dataclass(frozen=True)
class Options:
    """How methods are run; configs/eval_defaults.py says what each field is."""

    num_refs: int = 4
    window: int = 4
    mean_samples: int = 200
    pairwise_graph: str = "complete"
    pairwise_window: int = 4
    pairwise_steps: int = 300
    pairwise_batch: int = 8
    splat_px: float = 0.6
    batch_per_device: int = 1
    devices: int = 0
    chamfer: str = "auto"
    pictures: int = 2

    def __post_init__(self):
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {getattr(self, name)!r}")
        if not self.splat_px > 0:
            raise ValueError(f"splat_px must be above 0, got {self.splat_px}")

    def settings(self, num_inputs: int) -> Settings:
        """The part that methods see."""
        return Settings(
            num_inputs=num_inputs,
            num_refs=min(self.num_refs, num_inputs),
            at_once=self.window,
            graph=self.pairwise_graph,
            window=self.pairwise_window,
            steps=self.pairwise_steps,
            pairs_at_once=self.pairwise_batch,
            splat_px=self.splat_px,
        )


class Round(NamedTuple):
    """One set at one number of views."""

    data: EvalSet
    num_inputs: int
    num_targets: int
    ids: list[str]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything that is known before the first computation.

    methods: those that will run. networks: of each that takes one. training: by data set, what
    'mean' averages over. skipped: why other methods cannot run. labels: names in tables that
    differ. facts: what tells this evaluation from another one, besides its rounds.
    """

    methods: tuple[str, ...]
    networks: Mapping[str, Network]
    rounds: Sequence[Round]
    training: Mapping[str, EvalSet] = dataclasses.field(default_factory=dict)
    options: Options = Options()
    skipped: Mapping[str, str] = dataclasses.field(default_factory=dict)
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def targets(self) -> dict[str, int]:
        """Render-only views by the number of input views, as JSON has it."""
        return {str(r.num_inputs): r.num_targets for r in self.rounds}

    @property
    def ids(self) -> dict[tuple[str, int], list[str]]:
        """(data set, input views) -> the trajectories of that round."""
        return {(r.data.name, r.num_inputs): r.ids for r in self.rounds}


def listed(text: str) -> tuple[str, ...]:
    """The entries of a comma-separated list."""
    return tuple(entry.strip() for entry in text.split(",") if entry.strip())


def _whole_numbers(name: str, text: str, least: int) -> list[int]:
    try:
        values = [int(entry) for entry in listed(text)]
    except ValueError:
        raise ValueError(
            f"{name} must be whole numbers separated by commas, got {text!r}"
        ) from None
    if not values or min(values) < least:
        raise ValueError(f"{name} must be at least {least}, got {text!r}")
    return values


def view_counts(views: str, num_targets: str) -> list[tuple[int, int]]:
    """(input views, render-only views) of each round, from two lists such as '4,8' and '1'."""
    inputs = _whole_numbers("views", views, least=2)
    targets = _whole_numbers("num_targets", num_targets, least=0)
    targets = targets * len(inputs) if len(targets) == 1 else targets
    if len(inputs) > len(targets):
        raise ValueError(f"{len(inputs)} entries in views, but num_targets has {len(targets)}")
    if len(set(inputs)) < len(inputs):
        raise ValueError(f"views must differ from each other, got {views!r}")
    return list(zip(inputs, targets, strict=False))


def check_methods(methods: Sequence[str], has_weights: bool) -> None:
    """ValueError for no methods, unknown or repeated ones, or networks without any weights."""
    if not methods:
        raise ValueError(f"methods names none; there are {', '.join(METHODS)}")
    for method in methods:
        if method not in METHODS:
            raise ValueError(f"methods must be among {', '.join(METHODS)}; got {method!r}")
        if METHODS[method].takes_network and not has_weights:
            raise ValueError(f"method {method!r} needs --weights")
    if len(set(methods)) < len(methods):
        raise ValueError(f"methods must differ from each other, got {', '.join(methods)}")


def check_size(data: EvalSet, networks: Mapping[str, Network]) -> None:
    """ValueError for images that a network cannot take."""
    height, width = data.size
    for method, network in networks.items():
        patch = network.config.patch
        if height % patch or width % patch:
            raise ValueError(
                f"{data.name}: images of {height}x{width} cannot be cut into patches of "
                f"{patch}x{patch}, which method {method!r} needs"
            )


def networks_of(
    methods: Sequence[str], network: Network | None, pairs: Network | None
) -> dict[str, Network]:
    """The network of every method that takes one; ``pairs`` serves those made for pairs."""
    own = {m: pairs if pairs and METHODS[m].needs is Needs.PAIRS else network for m in methods}
    return {m: net for m, net in own.items() if METHODS[m].takes_network}


def _rounds(sets: Sequence[EvalSet], counts: Sequence[tuple[int, int]]) -> list[Round]:
    rounds = [Round(d, v, t, list(d.ids(v, t))) for d, (v, t) in itertools.product(sets, counts)]
    if empty := [r for r in rounds if not r.ids]:
        raise ValueError(f"{empty[0].data.name} has no trajectories to evaluate on")
    if not rounds:
        raise ValueError("there is no data set to evaluate on")
    return rounds


def make_plan(
    methods: Sequence[str],
    sets: Sequence[EvalSet],
    counts: Sequence[tuple[int, int]],
    *,
    network: Network | None = None,
    pairs: Network | None = None,
    training: Mapping[str, EvalSet] | None = None,
    options: Options = Options(),
    facts: Mapping[str, Any] | None = None,
) -> Plan:
    """Checks that methods, networks and data fit each other.

    Methods that the network cannot serve are skipped; it is an error if none is left.

    Raises:
      ValueError: what is wrong, in one line.
    """
    check_methods(methods, network is not None)
    networks, labels = networks_of(methods, network, pairs), {}
    skipped = {m: why_not(METHODS[m], net.config) for m, net in networks.items()}
    skipped = {m: why for m, why in skipped.items() if why}
    served = tuple(m for m in methods if m not in skipped)
    networks = {m: net for m, net in networks.items() if m in served}
    if not served:
        raise ValueError("; ".join(f"method {m!r} cannot run: {w}" for m, w in skipped.items()))
    for method, net in networks.items():
        if METHODS[method].needs is Needs.PAIRS and not pairs and not is_pairwise(net.config):
            labels[method] = f"{method} (multi-view weights)"
    for data in sets:
        check_size(data, networks)
    rounds = _rounds(sets, counts)
    if any(METHODS[m].needs is Needs.TRAINING_MEAN for m in served):
        _rounds(list((training or {}).values()), [(views, 0) for views, _ in counts])
    return Plan(served, networks, rounds, training or {}, options, skipped, labels, facts or {})
