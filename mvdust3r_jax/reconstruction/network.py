"""The network on the photographs of a scene: its programs and what they answer."""

from __future__ import annotations

import dataclasses

import numpy as np

from mvdust3r_jax.reconstruction.model import Model
from mvdust3r_jax.reconstruction.programs import Leaf, Program, abstract, program
from mvdust3r_jax.types import Gaussians, Prediction

# References of the MV-DUSt3R+ release, in training and evaluation.
DEFAULT_REFS = 4
_GAUSSIANS = tuple(field.name for field in dataclasses.fields(Gaussians))


def compiled_program(model: Model, shape: tuple[int, int, int, int], num_refs: int) -> Program:
    """`traced.forward` for one shape: a function of (variables, pixels, reference)."""
    facts = (model.config, num_refs)
    pixels, reference = Leaf(shape, "uint8"), Leaf((), "int32")
    return program("forward_arrays", facts, (abstract(model.variables), pixels, reference))


def prediction_of(answer: dict[str, np.ndarray]) -> Prediction:
    """What a program returned, Gaussians put together."""
    named = {name: answer[name] for name in _GAUSSIANS if name in answer}
    return Prediction(answer["points"], answer["confidence"], Gaussians(**named) if named else None)
