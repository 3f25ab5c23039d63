"""The one place that turns a configuration into plain objects.

`train.py`, `eval.py`, the TPU planner and the benchmarks call it; nothing below sees a ConfigDict.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, NamedTuple

import ml_collections

from configs import checks, defaults, fits, ranges
from mvdust3r_jax.evaluation.plan import Options
from mvdust3r_jax.metrics import lpips
from mvdust3r_jax.models.config import VARIANTS, ModelConfig
from mvdust3r_jax.training.objective import ALWAYS, check_terms
from mvdust3r_jax.training.objective_config import ObjectiveConfig
from mvdust3r_jax.training.optimizer import OptimizerConfig
from mvdust3r_jax.training.parallel import AXIS, OneChip, Spread
from mvdust3r_jax.training.run import check_pmap, spread_by
from mvdust3r_jax.training.state import StepConfig
from mvdust3r_jax.training.step import Recipe, make_recipe

# What of `config.loss` is no weight of a term.
_RENDERED = ("render_paths", "render_views")


# Fields whose entries have names of their own: sets to evaluate on; data.rooms checks its options.
USER_NAMED = ("eval", "options")


class Parts(NamedTuple):
    """What a run is made of."""

    network: ModelConfig
    optimizer: OptimizerConfig
    objective: ObjectiveConfig
    step: StepConfig


def parts(config: ml_collections.ConfigDict) -> Parts:
    """Network, optimizer, objective and step of a checked configuration."""
    return Parts(network(config), optimizer(config), objective(config), step(config))


def network(config: ml_collections.ConfigDict) -> ModelConfig:
    """The row of VARIANTS with this run's options."""
    if config.variant not in VARIANTS:
        raise ValueError(f"variant must be one of {sorted(VARIANTS)}, got {config.variant!r}")
    return dataclasses.replace(
        VARIANTS[config.variant],
        dtype=config.dtype,
        remat={"": False, "full": True}.get(config.remat, config.remat),
        sh_degree=config.sh_degree,
        bn_axis_name=AXIS,
    )


def optimizer(config: ml_collections.ConfigDict) -> OptimizerConfig:
    """Its fields have the names of the config's, but for the optimizer's own."""
    names = [
        f.name for f in dataclasses.fields(OptimizerConfig) if f.name not in ("name", "freeze")
    ]
    fields = {name: config[name] for name in names}
    fields["decay_steps"] = config.decay_steps or None
    return OptimizerConfig(name=config.optimizer, freeze=tuple(config.freeze), **fields)


def _weights(config: ml_collections.ConfigDict) -> dict[str, float]:
    """Of all terms of the loss."""
    return {name: weight for name, weight in config.loss.items() if name not in _RENDERED}


def objective(config: ml_collections.ConfigDict) -> ObjectiveConfig:
    """Weights of all terms in ``config.loss``, and what is rendered."""
    rendered = {name: config.loss[name] for name in _RENDERED}
    made = ObjectiveConfig(
        num_refs=config.num_refs,
        num_targets=config.data.num_targets,
        weights=_weights(config),
        sh_degree=config.sh_degree,
        max_scale=VARIANTS[config.variant].max_scale,
        **rendered,
    )
    check_terms(made)
    return made


def step(config: ml_collections.ConfigDict) -> StepConfig:
    """Micro-batches and the moving average."""
    return StepConfig(config.accumulation, config.average_decay)


def chips(config: ml_collections.ConfigDict) -> Spread:
    """How the run is spread over all devices."""
    return spread_by(config.parallel, config.mesh, slices=config.slices, gather=config.gather)


def recipe(
    config: ml_collections.ConfigDict,
    model: Any,
    params: Any,
    spread: OneChip | None = None,
) -> Recipe:
    """What a step does with this model, whose parameters are like ``params`` (arrays or shapes).

    spread: over the chips; None: over none. LPIPS' weights are read if the loss has that term.
    """
    _, optimizer, objective, step = parts(config)
    perceptual = lpips.load_weights() if config.loss.lpips else None
    return make_recipe(
        *(model, optimizer, objective, step, params), perceptual=perceptual, spread=spread
    )


def data_settings(config: ml_collections.ConfigDict, **overrides: Any) -> dict[str, Any]:
    """Arguments of `data.training_batches.make_source`."""
    settings = config.data.to_dict() | overrides
    del settings["prefetch"]
    return settings


def eval_settings(config: ml_collections.ConfigDict) -> dict[str, dict[str, Any]]:
    """The same for every set that the run evaluates on; none where it never does.

    In the order in which they are written, of which a ConfigDict's JSON alone knows: the first one
    decides which state is the best.
    """
    written = json.loads(config.eval.to_json_best_effort()) if config.eval_every else ()
    sets = {}
    for name in written:
        fields = {"reuse": 1} | config.eval[name].to_dict()
        if fields.get("source", config.data.source) == "records":
            fields = {"augment": False} | fields
        sets[name] = data_settings(config, **fields)
    return sets


def evaluation_options(config: ml_collections.ConfigDict) -> Options:
    """How the methods of an evaluation are run: fields of the same names."""
    return Options(**{f.name: config[f.name] for f in dataclasses.fields(Options)})


def check(config: ml_collections.ConfigDict) -> None:
    """Every field must stand in configs/defaults.py, with a value of its type, and all must fit.

    Raises:
      ValueError: everything that is wrong with names and types, or the first misfit.
    """
    known = defaults.get_config()
    wrong = checks.faults(config, known, free=USER_NAMED)
    wrong += checks.missing(config, known, free=USER_NAMED)
    for name, overrides in config.get("eval", {}).items():
        wrong += checks.faults(overrides, known.data, f"eval.{name}.", USER_NAMED)
    checks.refuse(wrong, "configs/defaults.py")
    ranges.check_steps(config)
    ranges.check_mesh(config.mesh)
    ranges.check_data(config.data)
    for name, overrides in config.eval.items():
        # The objective tells render-only views from inputs by this one number.
        if overrides.get("num_targets", config.data.num_targets) != config.data.num_targets:
            raise ValueError(
                f"eval.{name}.num_targets = {overrides.num_targets} must be data.num_targets = "
                f"{config.data.num_targets}: evaluation has as many render-only views as training"
            )
        ranges.check_data(data_settings(config, **overrides.to_dict()), f"eval.{name}")
    if config.eval_every and not config.eval:
        raise ValueError("config.eval names no set; eval_every = 0 evaluates never")
    judges = ["nd", "loss", *ALWAYS]
    judges += [name for name, weight in _weights(config).items() if weight and name not in ALWAYS]
    if config.eval_every and config.best_metric not in judges:
        raise ValueError(
            f"best_metric must be one of {', '.join(judges)} (terms without weight are not "
            f"computed), got {config.best_metric!r}"
        )
    if config.gather == "layer" and not (config.parallel == "fsdp" and config.remat):
        raise ValueError(
            "gather='layer' needs parallel='fsdp', and remat, without which all that is gathered "
            f"would be kept for the backward pass; got {config.parallel!r}, {config.remat!r}"
        )
    if config.milestone_every and config.milestone_every % max(config.checkpoint_every, 1):
        raise ValueError(
            f"milestone_every = {config.milestone_every} must be a multiple of checkpoint_every = "
            f"{config.checkpoint_every}: only what is saved can be kept"
        )
    if not 0 <= config.stop_step <= config.total_steps:
        raise ValueError(
            f"stop_step must lie in 0..total_steps = {config.total_steps}, got {config.stop_step}"
        )
    if config.parallel == "pmap":
        check_pmap(config.mesh, config.slices, config.gather)
    _check_fits(config)


def _check_fits(config: ml_collections.ConfigDict) -> None:
    """Network, objective, training's data and every set to evaluate on must fit each other."""
    network, _, objective, _ = parts(config)
    terms = objective.weights
    fits.check_terms(terms, network, config.variant)
    fits.check_lpips(terms, config.best_metric if config.eval_every else "")
    fits.check_size(config.data, "data", network, terms)
    for name, settings in eval_settings(config).items():
        fits.check_size(settings, f"eval.{name}", network, terms)


def check_shares(config: ml_collections.ConfigDict, devices: int) -> None:
    """Every batch of training and evaluation must give each device whole micro-batches.

    devices: of all processes. ValueError naming the batch and what it must be a multiple of.
    """
    parts, views = config.accumulation, config.mesh[1] if config.parallel == "fsdp" else 1
    shards = max(devices // views, 1)
    sets = {f"eval.{name}": settings for name, settings in eval_settings(config).items()}
    for place, settings in ({"data": data_settings(config)} | sets).items():
        for batch in sorted(_batches(settings)):
            if batch % (shards * parts):
                told = f" that share views {views} by {views}" if views > 1 else ""
                raise ValueError(
                    f"a batch of {batch} samples cannot be shared by {devices} devices{told} in "
                    f"{parts} parts: choose a multiple of {shards * parts} for {place}.batch_size "
                    "(or images_per_step over the number of views), or another accumulation"
                )


def _batches(settings: dict[str, Any]) -> set[int]:
    """Samples of the batches that these settings of a source make."""
    if images := settings["images_per_step"]:
        return {images // views for views in settings["num_inputs"]}
    return {settings["batch_size"]}
