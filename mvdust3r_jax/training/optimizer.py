"""AdamW or Muon with rules by parameter path, warm-up and decay, optional clipping and freezing.

A parameter's path is its names joined with ``/`` (``encoder/blocks/mlp/fc1/kernel``). The first
rule whose regular expression matches the whole path decides how the parameter is treated. One that
no rule covers is an error, so that a new kind of parameter cannot be decayed by accident.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from mvdust3r_jax.training.processes import RunError

# Kernels are decayed, also where scan stacks them; biases and norms are not, stacked or single.
DECAY_RULES = (
    (r".*/kernel", True),
    (r".*/(bias|scale)", False),
)
# Muon's matrices: those of the transformer blocks. Embeddings, heads, convolutions keep AdamW.
MUON_MATRICES = r".*blocks.*/kernel"
# Muon's updates have this root mean square, that of AdamW's, so both share one learning rate.
MUON_UPDATE_RMS = 0.2


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The published recipe. Steps are optimizer updates; freeze holds regular expressions."""

    name: str = "adamw"
    peak_lr: float = 1.5e-4
    final_lr: float = 1e-6
    warmup_steps: int = 0
    total_steps: int = 1
    # Steps of the decay, the last ones; between warm-up and decay the rate stays at its peak.
    # None: half a cosine right after the warm-up.
    decay_steps: int | None = None
    b1: float = 0.9
    b2: float = 0.95
    weight_decay: float = 0.05
    clip_norm: float = 0.0  # 0: no clipping
    freeze: tuple[str, ...] = ()

    def __post_init__(self):
        if self.name not in ("adamw", "muon"):
            raise ValueError(f"optimizer must be 'adamw' or 'muon', got {self.name!r}")
        if not 0 < self.peak_lr < math.inf:
            raise ValueError(f"peak_lr must be finite and above 0, got {self.peak_lr}")
        for name in ("final_lr", "weight_decay", "clip_norm"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and at least 0, got {getattr(self, name)}")
        for name in ("b1", "b2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        for pattern in self.freeze:
            _check_pattern(pattern)
        if self.total_steps < 1:
            raise ValueError(f"total_steps must be at least 1, got {self.total_steps}")
        if not 0 <= self.warmup_steps <= self.total_steps:
            raise ValueError(
                f"warmup_steps must lie in 0..total_steps = {self.total_steps}, "
                f"got {self.warmup_steps}"
            )
        stable = self.total_steps - self.warmup_steps
        if self.decay_steps is not None and not 1 <= self.decay_steps <= stable:
            raise ValueError(
                f"decay_steps must lie in 1..total_steps - warmup_steps = {stable}, "
                f"got {self.decay_steps}"
            )


def _check_pattern(pattern: object) -> None:
    """ValueError unless it is a regular expression."""
    try:
        re.fullmatch(pattern, "")
    except (re.error, TypeError, OverflowError) as error:
        raise ValueError(
            f"freeze must hold regular expressions, e.g. ('encoder/.*',), got {pattern!r}: {error}"
        ) from error


def learning_rate(config: OptimizerConfig, step: int | Array) -> Float[Array, ""]:
    """Linear from 0 over the warm-up, then down to ``final_lr`` at ``total_steps``.

    Half a cosine, or with ``decay_steps`` constant until these last steps and linear over them.
    A warm-up over all steps ends at ``peak_lr``, and there it stays.
    """
    step = jnp.asarray(step, jnp.float32)
    warm = config.peak_lr * step / max(config.warmup_steps, 1)
    span = max(config.total_steps - config.warmup_steps, 1)
    progress = jnp.clip((step - config.warmup_steps) / span, 0.0, 1.0)
    height = 0.5 * (1 + jnp.cos(jnp.pi * progress))
    if config.decay_steps is not None:
        height = jnp.clip((config.total_steps - step) / config.decay_steps, 0.0, 1.0)
    decayed = config.final_lr + (config.peak_lr - config.final_lr) * height
    return jnp.where(step < config.warmup_steps, warm, decayed)


def path_name(path: tuple) -> str:
    """``jax.tree_util`` key path as names joined with a slash."""
    return "/".join(str(getattr(key, "key", getattr(key, "name", key))) for key in path)


def map_with_path(function: Callable[[str, Array], object], params: dict) -> dict:
    """``function(path name, parameter)`` over a tree."""
    return jax.tree_util.tree_map_with_path(lambda p, x: function(path_name(p), x), params)


def frozen_mask(params: dict, patterns: tuple[str, ...]) -> dict:
    """True for parameters whose path a pattern matches; a pattern that matches none is an error."""
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for pattern in patterns:
        if not any(re.fullmatch(pattern, name) for name in names):
            raise RunError(
                f"freeze pattern {pattern!r} matches no parameter; paths look like {names[:3]}"
            )
    return map_with_path(lambda name, _: any(re.fullmatch(p, name) for p in patterns), params)


def _treatment(name: str, config: OptimizerConfig) -> str:
    """'frozen', 'muon', 'decay' or 'plain' for one parameter path."""
    if any(re.fullmatch(pattern, name) for pattern in config.freeze):
        return "frozen"
    if config.name == "muon" and re.fullmatch(MUON_MATRICES, name):
        return "muon"
    for pattern, decays in DECAY_RULES:
        if re.fullmatch(pattern, "/" + name):
            return "decay" if decays else "plain"
    raise ValueError(
        f"no rule covers the parameter {name!r}; add one to DECAY_RULES "
        f"(now {[pattern for pattern, _ in DECAY_RULES]})"
    )


def _matrix_axes(params: dict) -> dict:
    """Input and output axis of every Muon matrix; a leading axis is the layer of a scan."""

    def axes(name: str, value: Array) -> optax.contrib.MuonDimensionNumbers:
        if value.ndim not in (2, 3):
            raise ValueError(f"Muon expects matrices, got {name!r} of shape {value.shape}")
        return optax.contrib.MuonDimensionNumbers(value.ndim - 2, value.ndim - 1)

    return map_with_path(axes, params)


def _scale_to_rms(update: Array, _: Array | None) -> Array:
    """An orthogonal matrix [..., m, n] has entries of root mean square ``max(m, n) ** -0.5``."""
    return update * (MUON_UPDATE_RMS * max(update.shape[-2:]) ** 0.5)


def make_optimizer(config: OptimizerConfig, params: dict) -> optax.GradientTransformation:
    """The whole update rule. ``params`` (arrays or shapes) only tell the paths.

    Raises:
      RunError: a pattern of ``freeze`` matches nothing, or together they leave nothing to learn.
    """
    if all(jax.tree.leaves(frozen_mask(params, config.freeze))):
        raise RunError(f"freeze = {config.freeze} matches every parameter: nothing would learn")

    def schedule(count: Array) -> Array:
        return learning_rate(config, count)

    def adamw(weight_decay: float) -> optax.GradientTransformation:
        return optax.adamw(schedule, config.b1, config.b2, weight_decay=weight_decay)

    treatments = {
        "decay": adamw(config.weight_decay),
        "plain": adamw(0.0),
        "frozen": optax.set_to_zero(),
    }
    if config.name == "muon":
        treatments["muon"] = optax.chain(
            optax.contrib.scale_by_muon(weight_dimension_numbers=_matrix_axes),
            optax.stateless_with_tree_map(_scale_to_rms),
            optax.add_decayed_weights(config.weight_decay),
            optax.scale_by_learning_rate(schedule),
        )
    labels = map_with_path(lambda name, _: _treatment(name, config), params)
    update = optax.partition(treatments, labels)
    if config.clip_norm > 0:
        return optax.chain(optax.clip_by_global_norm(config.clip_norm), update)
    return update
