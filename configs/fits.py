"""What of data, network and objective must fit each other; each misfit is told in one line."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from mvdust3r_jax.metrics import lpips
from mvdust3r_jax.models.config import ModelConfig
from mvdust3r_jax.training.render_loss import SCENE_TERMS


def check_terms(terms: Collection[str], network: ModelConfig, variant: str) -> None:
    """The network must have what the terms of the loss that have a weight are computed from."""
    if not terms:
        raise ValueError("no term of config.loss has a weight: nothing would be learned")
    rendered = [name for name in SCENE_TERMS if name in terms]
    if rendered and not network.gaussians:
        raise ValueError(
            f"loss.{', loss.'.join(rendered)} must be 0: these terms are of Gaussians, and the "
            f"network of variant={variant!r} has none"
        )


def check_lpips(terms: Collection[str], best_metric: str) -> None:
    """Where LPIPS' weights are missing its term is off; it must not be what the run is about.

    best_metric: '' where the run never evaluates.
    """
    if "lpips" not in terms or lpips.available():
        return
    if set(terms) == {"lpips"}:
        raise ValueError(
            "loss.lpips is the only term with a weight, but LPIPS' own weights are not installed: "
            f"nothing would be learned ({lpips.INSTALL})"
        )
    if best_metric == "lpips":
        raise ValueError(
            "best_metric='lpips' is not computed, since LPIPS' own weights are not installed "
            f"({lpips.INSTALL})"
        )


def check_size(
    settings: Mapping[str, Any], place: str, network: ModelConfig, terms: Collection[str]
) -> None:
    """Images of ``data``, or of a set to evaluate on, for the network and the terms of the loss.

    settings: with height and width in pixels. place: their name in messages.
    """
    size = settings["height"], settings["width"]
    told = f"{place}.height x width must be"
    if any(side % network.patch for side in size):
        raise ValueError(
            f"{told} multiples of the network's patch of {network.patch}, got {size[0]} x {size[1]}"
        )
    if "lpips" in terms and lpips.available() and min(size) < lpips.MIN_SIDE:
        raise ValueError(
            f"{told} at least {lpips.MIN_SIDE} each for loss.lpips, got {size[0]} x {size[1]}"
        )
