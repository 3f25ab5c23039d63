"""Which view serves best as the reference: the surest path's, or the one in the middle.

A path's score is the mean logarithm of its confidences over all views and pixels. Nothing but the
network's own answer is used, so the choice can be made where no truth is known. The view in the
middle is the one that to the encoder is most like all others: it is known before anything is
decoded.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mvdust3r_jax import pytrees
from mvdust3r_jax.models.config import ModelConfig
from mvdust3r_jax.models.encoded import (
    encode_views,
    predict_and_keep,
    predict_decoded,
    predict_encoded,
)
from mvdust3r_jax.models.window_plan import likeness
from mvdust3r_jax.types import Prediction

# Candidates whose tokens and results exist at once.
REFERENCES_AT_ONCE = 4


@pytrees.dataclass
class Choice:
    """The surest path's answer; its reference view; the score of every candidate view."""

    prediction: Prediction
    reference: Int[Array, " B"]
    scores: Float[Array, "B R"]


def path_scores(confidence: Float[Array, "*batch V H W"]) -> Float[Array, "*batch"]:
    """Mean log confidence; -inf where a confidence is not a number, so that no such path wins."""
    score = jnp.log(confidence).mean(axis=(-3, -2, -1))
    return jnp.where(jnp.isnan(score), -jnp.inf, score)


def surest_path(prediction: Prediction) -> Choice:
    """Of the paths ``[B, R, V, ...]`` of one pass the surest; of equals the first."""
    scores = path_scores(prediction.confidence)
    reference = jnp.argmax(scores, axis=1)
    chosen = jax.tree.map(lambda x: jax.vmap(lambda row, i: row[i])(x, reference), prediction)
    return Choice(chosen, reference, scores)


def surest_of_paths(
    variables: dict, images: Float[Array, "B V H W 3"], *, config: ModelConfig, num_refs: int
) -> Choice:
    """The first ``R`` views as references of the paths of one pass, and the surest path's answer.

    The same as `surest_path` of a pass with ``all_paths``, for less: confidences need neither skip
    CNN nor Gaussians, so these are made of the surest path alone.
    """
    light = replace(config, skip=False, gaussians=False)
    paths, tokens, decoded = predict_and_keep(variables, images, light, num_refs=num_refs)
    scores = path_scores(paths.confidence)
    reference = jnp.argmax(scores, axis=1)
    order, back = jax.vmap(lambda view: _view_first(images.shape[1], view))(reference)
    ordered = _rows(images, order), _rows(tokens, order)
    decoded = [_rows(_rows(x, reference), order)[:, None] for x in decoded]
    chosen = predict_decoded(variables, *ordered, decoded, config)
    return Choice(jax.tree.map(lambda x: _rows(x, back), chosen), reference, scores)


def middle_view(tokens: Float[Array, "*batch V N E"]) -> Int[Array, "*batch"]:
    """The view that is most like all others, by the means of its tokens; of equals the first."""
    return jnp.argmax(likeness(tokens.mean(axis=-2)).sum(axis=-1), axis=-1)


def from_view(
    variables: dict,
    images: Float[Array, "B V H W 3"],
    tokens: Float[Array, "B V N E"],
    reference: Int[Array, " B"],
    *,
    config: ModelConfig,
    num_refs: int = 1,
) -> Prediction:
    """The network's answer with a reference of each sample's own; ``tokens`` by the encoder.

    Further references are the first of the other views.
    """
    order, back = jax.vmap(lambda view: _view_first(images.shape[1], view))(reference)
    ordered = _rows(images, order), _rows(tokens, order)
    prediction = predict_encoded(variables, *ordered, config, num_refs=num_refs)
    return jax.tree.map(lambda x: _rows(x, back), prediction)


def from_middle_view(
    variables: dict, images: Float[Array, "B V H W 3"], *, config: ModelConfig, num_refs: int = 1
) -> tuple[Prediction, Int[Array, " B"]]:
    """`from_view` with the `middle_view`, and which that is. Costs what any pass costs."""
    tokens = encode_views(variables, images, config)
    reference = middle_view(tokens)
    seen = from_view(variables, images, tokens, reference, config=config, num_refs=num_refs)
    return seen, reference


def _rows(x: Float[Array, "B n *rest"], index: Int[Array, " B *m"]) -> Float[Array, " B *m *rest"]:
    """Rows of each sample by its own index."""
    return jax.vmap(lambda sample, i: sample[i])(x, index)


def _view_first(views: int, view: Int[Array, ""]) -> tuple[Int[Array, " V"], Int[Array, " V"]]:
    """The order in which a view comes before all others, and its inverse."""
    i = jnp.arange(views)
    order = jnp.where(i <= view, i - 1, i).at[0].set(view)
    return order, jnp.where(i < view, i + 1, i).at[view].set(0)


def _surer(new: Choice, old: Choice, first: Array) -> Choice:
    """Sample by sample the choice with the larger score; ``new`` where there was none before."""
    better = first | (new.scores.max(axis=1) > old.scores.max(axis=1))

    def select(a: Array, b: Array) -> Array:
        return jnp.where(better.reshape(-1, *(1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(select, new, old)


def surest_of_group(
    variables: dict,
    images: Float[Array, "B V H W 3"],
    tokens: Float[Array, "B V N E"],
    start: Int[Array, ""],
    *,
    config: ModelConfig,
    at_once: int,
) -> Choice:
    """``at_once`` views from ``start`` on, each tried as a reference; ``tokens`` by the encoder."""
    views = images.shape[1]
    # Turned so that the candidates come first; the last group may begin again with view 0.
    order, back = (jnp.arange(views) + start) % views, (jnp.arange(views) - start) % views
    turned = images[:, order], tokens[:, order]
    paths = predict_encoded(variables, *turned, config, num_refs=at_once, all_paths=True)
    choice = surest_path(jax.tree.map(lambda x: x[:, :, back], paths))
    return choice.replace(reference=(choice.reference + start) % views)


def surest_reference(
    variables: dict,
    images: Float[Array, "B V H W 3"],
    *,
    config: ModelConfig,
    at_once: int = REFERENCES_AT_ONCE,
) -> Choice:
    """Every view tried as the only reference (R = 1 each), and the surest one's answer.

    Images are encoded once. ``at_once`` candidates are decoded together, and of them only the best
    is kept, so memory does not grow with their number. With cross-reference blocks paths of one
    pass would look at each other: there candidates are decoded one by one.
    """
    views = images.shape[1]
    at_once = 1 if config.cross_ref else min(at_once, views)
    tokens = encode_views(variables, images, config)

    group = partial(surest_of_group, variables, images, tokens, config=config, at_once=at_once)

    def step(best: Choice, start: Array) -> tuple[Choice, Array]:
        found = group(start)
        return _surer(found, best, start == 0), found.scores

    starts = jnp.arange(0, views, at_once)
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(group, 0))
    best, scores = jax.lax.scan(step, nothing, starts)
    scores = jnp.swapaxes(scores, 0, 1).reshape(len(images), -1)[:, :views]
    return best.replace(scores=scores)
