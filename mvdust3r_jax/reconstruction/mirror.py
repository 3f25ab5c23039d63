"""The network asked twice: of the photographs, and of their mirror images (`geometry.mirrored`)."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import UInt8

from mvdust3r_jax.reconstruction.model import Model
from mvdust3r_jax.reconstruction.network import Answer, Ask, pass_flops
from mvdust3r_jax.reconstruction.programs import Leaf, abstract, program
from mvdust3r_jax.types import Prediction


def asking_mirror_too(
    ask: Ask, model: Model, shape: tuple[int, int, int, int], num_refs: int
) -> Ask:
    """``ask``, and a second pass from the reference that it chose; the mean of both answers."""
    given = (
        *(abstract(model.variables), Leaf(shape, "uint8"), Leaf((), "int32")),
        *(Leaf((*shape[:3], 3), "float32"), Leaf(shape[:3], "float32")),
    )
    again = program(
        "mirrored_arrays", (model.config, num_refs), given, pass_flops(model, shape, num_refs)
    )

    def both(variables: dict, pixels: UInt8[np.ndarray, "V H W 3"]) -> Answer:
        answer = ask(variables, pixels)
        seen = answer.prediction
        given = pixels, np.int32(answer.reference), seen.points, seen.confidence
        found = again(variables, *given)
        mean = (np.array(found[name]) for name in ("points", "confidence"))
        return dataclasses.replace(answer, prediction=Prediction(*mean, seen.gaussians))

    return both
