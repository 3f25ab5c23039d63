"""The whole training objective: weighted terms, each logged under its own name.

``confidence`` compares pointmaps of all paths; the others render the predicted Gaussians in the
true cameras of input and render-only views (``render_loss``). A weight of 0 leaves a term out of
the program. Values are shares of the whole batch's when its ``totals`` are given (see ``losses``).
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from mvdust3r_jax import losses, render_loss
from mvdust3r_jax.types import Batch, Prediction


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """Weights of the published recipe, and what is rendered.

    num_refs: paths R, at most the number of input views. num_targets: render-only views T at the
    end of each sample. render_paths, render_views: how many paths and views are rendered in each
    step, drawn at random; 0 = all. max_scale: the network's.
    """

    num_refs: int = 1
    num_targets: int = 0
    confidence: float = 1.0
    rgb: float = 0.0
    lpips: float = 0.0
    scale_clip: float = 0.0
    sh_colour: float = 0.0
    render_paths: int = 0
    render_views: int = 0
    sh_degree: int = 0
    max_scale: float = losses.MAX_SCALE

    def __post_init__(self):
        if self.sh_colour > 0 and not self.sh_degree:
            raise ValueError(
                f"sh_colour = {self.sh_colour} needs sh_degree > 0: of degree 0 every Gaussian has "
                "its pixel's colour already"
            )

    @property
    def renders(self) -> bool:
        """Whether any term needs the Gaussians."""
        return any(w > 0 for w in (self.rgb, self.lpips, self.scale_clip, self.sh_colour))


def total_loss(
    config: ObjectiveConfig,
    prediction: Prediction,
    batch: Batch,
    key: Array,
    *,
    perceptual: dict | None = None,
    totals: losses.Totals | None = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Weighted sum and the unweighted terms; ``prediction`` has the path axis [B, R, V, ...]."""
    num_refs, num_inputs = prediction.points.shape[1:3]
    truth = losses.true_pointmaps(batch, num_refs)
    valid = losses.known_depth(batch)
    inputs = truth[:, :, :num_inputs], valid[:, :num_inputs]
    totals = losses.count_totals(batch, num_refs, num_inputs, None) if totals is None else totals
    confidence = losses.confidence_loss(
        prediction.points, prediction.confidence, *inputs, counts=totals.slots
    ).sum()
    loss = config.confidence * confidence
    terms = {
        "confidence": confidence,
        "regression": losses.regression_loss(prediction.points, *inputs, counts=totals.slots).sum(),
        "valid_share": losses.sample_mean(valid.mean(axis=(1, 2, 3)), totals.samples),
        "mean_log_confidence": losses.sample_mean(
            jnp.log(prediction.confidence).mean(axis=(1, 2, 3, 4)), totals.samples
        ),
    }
    if config.renders:
        weighted, rendered = render_loss.render_terms(
            config, prediction, batch, key, perceptual=perceptual, samples=totals.samples
        )
        loss, terms = loss + weighted, terms | rendered
    return loss, terms
