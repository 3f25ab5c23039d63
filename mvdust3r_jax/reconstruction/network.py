"""The network on the photographs of a scene: which is the reference, and the answer.

A photograph's score as the reference is the mean logarithm of the confidences on its path.
MV-DUSt3R+ has several paths anyway, and the surest of them costs little more; a network with one
path decodes the scene anew for every photograph that is tried. Which photograph is the most like
all others, the encoder says before anything is decoded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Float, UInt8

from mvdust3r_jax.models.config import ModelConfig
from mvdust3r_jax.models.flops import choice_flops, forward_flops
from mvdust3r_jax.models.view_order import network_order
from mvdust3r_jax.reconstruction import memory
from mvdust3r_jax.reconstruction.model import Model
from mvdust3r_jax.reconstruction.programs import Leaf, Program, abstract, program
from mvdust3r_jax.types import Gaussians, Prediction

# References of the MV-DUSt3R+ release, in training and evaluation.
DEFAULT_REFS = 4
# By itself the surest reference is looked for where that takes less than this many passes.
AUTO_BELOW = 1.3
# Candidates that are decoded together at most.
_AT_ONCE = 4

# The surest, the one in the middle, the first.
WORDS = ("auto", "middle", "first")
Reference = int | Literal["auto", "middle", "first"]


@dataclasses.dataclass(frozen=True)
class Answer:
    """A prediction (NumPy), the photograph in whose frame it is, and the scores of those tried."""

    prediction: Prediction
    reference: int
    scores: dict[int, float] = dataclasses.field(default_factory=dict)

    @property
    def margin(self) -> float | None:
        """By how much the reference's score is above the second best; None if one was tried."""
        ranked = sorted(self.scores.values(), reverse=True)
        return ranked[0] - ranked[1] if len(ranked) > 1 else None


Ask = Callable[[dict, UInt8[np.ndarray, "V H W 3"]], Answer]


def gaussian_names() -> tuple[str, ...]:
    """Names of the arrays of `Gaussians`, in programs' answers."""
    return tuple(field.name for field in dataclasses.fields(Gaussians))


def default_reference(
    config: ModelConfig, views: int, num_refs: int, height: int, width: int
) -> Reference:
    """The surest ("auto") where that takes less than `AUTO_BELOW` passes, else the middle one.

    Of two photographs none is in the middle.
    """
    cheap = "middle" if views > 2 else "first"
    if not config.cross_ref or num_refs < 2:
        return cheap
    size = dict(views=views, num_refs=num_refs, height=height, width=width)
    ratio = choice_flops(config, **size) / forward_flops(config, **size)["total"]
    return "auto" if ratio < AUTO_BELOW else cheap


def asking(
    model: Model,
    shape: tuple[int, int, int, int],
    num_refs: int,
    reference: Reference,
    memory_limit: int | None = None,
    advance: Callable[[float], None] = lambda share: None,
) -> Ask:
    """The network compiled for photographs of one shape, ready to be asked.

    advance: is told the share of the candidates that is done, where these are tried in turn.
    """
    if reference == "auto" and model.config.cross_ref:
        return _surest_path(model, shape, num_refs)
    if reference == "auto":
        return _surest_view(model, shape, memory_limit, advance)
    if reference == "middle":
        return _middle_view(model, shape, num_refs)
    view = 0 if reference == "first" else reference
    one = compiled_program(model, shape, num_refs)

    def ask(variables: dict, pixels: np.ndarray) -> Answer:
        return _answer(one(variables, pixels, np.int32(view)), view, {})

    return ask


def compiled_program(model: Model, shape: tuple[int, int, int, int], num_refs: int) -> Program:
    """`traced.forward` for one shape: a function of (variables, pixels, reference)."""
    facts = (model.config, num_refs)
    pixels, reference = Leaf(shape, "uint8"), Leaf((), "int32")
    given = abstract(model.variables), pixels, reference
    return program("forward_arrays", facts, given, pass_flops(model, shape, num_refs))


def pass_flops(model: Model, shape: tuple[int, int, int, int], num_refs: int) -> float:
    """Of one pass; what encodes or tries candidates takes about as many."""
    views, height, width = shape[:3]
    size = dict(views=views, num_refs=num_refs, height=height, width=width)
    return float(forward_flops(model.config, **size)["total"])


def features_of(
    model: Model, pixels: UInt8[np.ndarray, "V H W 3"], at_once: int
) -> Float[np.ndarray, "V D"]:
    """What the encoder alone says of each photograph, ``at_once`` of them at a time."""
    views, shape = len(pixels), (at_once, *pixels.shape[1:])
    given = abstract(model.variables), Leaf(shape, "uint8")
    encode = program("view_features", (model.config,), given, pass_flops(model, shape, 1))
    found = []
    for start in range(0, views, at_once):
        # The last ones are filled up with photographs from the beginning.
        group = pixels[np.arange(start, start + at_once) % views]
        found.append(jax.device_get(encode(model.variables, group)["features"]))
    return np.concatenate(found)[:views]


def _middle_view(model: Model, shape, num_refs: int) -> Ask:
    """One pass; its reference is the photograph that is most like all others."""
    given = abstract(model.variables), Leaf(shape, "uint8")
    middle = program(
        "middle_arrays", (model.config, num_refs), given, pass_flops(model, shape, num_refs)
    )

    def ask(variables: dict, pixels: np.ndarray) -> Answer:
        found = jax.device_get(middle(variables, pixels))
        return _answer(found, int(found["reference"]))

    return ask


def _surest_path(model: Model, shape, num_refs: int) -> Ask:
    """One pass; candidates are the photographs that the network is given first."""
    given = abstract(model.variables), Leaf(shape, "uint8")
    surest = program(
        "surest_arrays", (model.config, num_refs), given, pass_flops(model, shape, num_refs)
    )
    candidates = network_order(shape[0])[:num_refs]

    def ask(variables: dict, pixels: np.ndarray) -> Answer:
        found = jax.device_get(surest(variables, pixels))
        return _answer(
            found,
            int(found["reference"]),
            dict(zip(candidates, found["scores"].tolist(), strict=True)),
        )

    return ask


def _surest_view(model: Model, shape, memory_limit: int | None, advance) -> Ask:
    """All photographs in groups that fit the memory; images are encoded once."""
    views, config = shape[0], model.config
    at_once = _candidates_at_once(config, shape, memory_limit)
    variables, pixels = abstract(model.variables), Leaf(shape, "uint8")
    flops = pass_flops(model, shape, at_once)
    encode = program("encode", (config,), (variables, pixels), flops)
    tokens = Leaf(
        (views, (shape[1] // config.patch) * (shape[2] // config.patch), config.enc_dim), "float32"
    )
    given = variables, pixels, tokens, Leaf((), "int32")
    group = program("surest_of_group_arrays", (config, at_once), given, flops)

    def ask(variables: dict, pixels: np.ndarray) -> Answer:
        encoded = encode(variables, pixels)["tokens"]
        scores: dict[int, float] = {}
        best: dict[str, Any] = {}
        for start in range(0, views, at_once):
            found = group(variables, pixels, encoded, np.int32(start))
            tried = ((start + i) % views for i in range(at_once))
            scores |= dict(zip(tried, np.asarray(found["scores"]).tolist(), strict=True))
            if not best or scores[int(found["reference"])] > scores[int(best["reference"])]:
                best = found
            advance(min(start + at_once, views) / views)
        best = jax.device_get(best)
        return _answer(best, int(best["reference"]), scores)

    return ask


def _candidates_at_once(config: ModelConfig, shape, memory_limit: int | None) -> int:
    """As many as fit; paths that are decoded together take memory like references."""
    limit = memory.usable_bytes(config) if memory_limit is None else memory_limit
    views, height, width = shape[:3]
    fitting = [
        n
        for n in range(1, min(_AT_ONCE, views) + 1)
        if memory.estimate(config, views, n, height, width).bytes <= limit
    ]
    return max(fitting, default=1)


def _answer(
    found: dict[str, Any], reference: int, scores: dict[int, float] | None = None
) -> Answer:
    # Copies: what JAX hands out cannot be written to, and a scene is its user's.
    found = jax.tree.map(np.array, jax.device_get(found))
    named = {name: found[name] for name in gaussian_names() if name in found}
    gaussians = Gaussians(**named) if named else None
    return Answer(
        Prediction(found["points"], found["confidence"], gaussians), reference, scores or {}
    )
