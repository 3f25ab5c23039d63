"""Many photographs in windows: each is one pass of the network, joined by the views in common.

Which views are in a window is `window_plan`'s. All have the same number of views, so one program
serves them, and what the network holds does not grow with their number. Each window's points have a
frame and a scale of their own; they are brought to the first one's by the similarity between the
answers for the views in common (robust least squares over pixels). A view keeps the answer of the
window that is surer of it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8

from mvdust3r_jax.models.window_plan import Plan
from mvdust3r_jax.reconstruction.network import Answer, Ask, gaussian_names
from mvdust3r_jax.reconstruction.programs import Leaf, program
from mvdust3r_jax.storage.atomic import whole_file
from mvdust3r_jax.types import Gaussians, Prediction


def ask_in_windows(
    ask: Ask,
    variables: dict,
    pixels: UInt8[np.ndarray, "V H W 3"],
    windows: Plan,
    *,
    kept_in: str | os.PathLike | None = None,
    facts: Hashable = (),
    advance: Callable[[float], None] = lambda share: None,
) -> Answer:
    """The network's answer for all photographs, one window at a time.

    Args:
      ask: the network, for photographs of the shape of a window.
      windows: views of each, by `window_plan`; the first one's reference is the whole's.
      kept_in: a folder for the answers of windows; those that are there already are not asked for
        again, so that a run that broke off goes on.
      facts: what the answers depend on beside weights and pixels; their ``repr`` must tell it.
      advance: is told the share of the windows that is done.
    """
    kept_in = None if kept_in is None else Path(kept_in)
    key = "" if kept_in is None else f"{_digest(variables)} {facts!r}"
    whole: _Whole | None = None
    for done, views in enumerate(windows, 1):
        answer = _kept(ask, variables, pixels[views], kept_in, key)
        if whole is None:
            whole = _Whole.begun(answer.prediction, views[answer.reference], len(pixels))
        whole.add(answer.prediction, views)
        advance(done / len(windows))
    return Answer(whole.prediction, whole.reference)


@dataclasses.dataclass
class _Whole:
    """The answer so far, in the frame of the first window; ``sure`` is -inf where there is none."""

    prediction: Prediction
    reference: int
    sure: np.ndarray  # [V] mean log confidence

    @classmethod
    def begun(cls, like: Prediction, reference: int, views: int) -> _Whole:
        empty = jax.tree.map(lambda x: np.zeros((views, *x.shape[1:]), np.float32), like)
        return cls(empty, reference, np.full(views, -np.inf))

    def add(self, found: Prediction, views: list[int]) -> None:
        """Put a window's answer in, where it is the first or the surer one."""
        common = [i for i in views if np.isfinite(self.sure[i])]
        if common:
            own = [views.index(i) for i in common]
            found = moved(found, *_similarity(found, self.prediction, own, common))
        sure = np.log(found.confidence).mean(axis=(1, 2))
        for own, view in enumerate(views):
            if sure[own] > self.sure[view]:
                self.sure[view] = sure[own]
                self._replace(view, found, own)

    def _replace(self, view: int, found: Prediction, own: int) -> None:
        for whole, part in zip(
            jax.tree.leaves(self.prediction), jax.tree.leaves(found), strict=True
        ):
            whole[view] = part[own]


def _similarity(
    found: Prediction, whole: Prediction, own: list[int], common: list[int]
) -> tuple[float, np.ndarray, np.ndarray]:
    """(scale, rotation, translation) that brings a window's points to the whole's."""
    source, target = found.points[own].reshape(-1, 3), whole.points[common].reshape(-1, 3)
    sure = np.minimum(found.confidence[own], whole.confidence[common]).reshape(-1)
    usable = np.isfinite(source).all(-1) & np.isfinite(target).all(-1) & (sure > 0)
    weights = np.where(usable, np.log1p(np.where(usable, sure, 0)), 0).astype(np.float32)
    source, target = (np.where(usable[:, None], x, 0) for x in (source, target))
    count = len(weights)
    shapes = Leaf((count, 3), "float32"), Leaf((count, 3), "float32"), Leaf((count,), "float32")
    result = jax.device_get(program("window_similarity", (), shapes)(source, target, weights))
    return float(result["scale"]), result["rotation"], result["translation"]


def moved(
    found: Prediction,
    scale: float,
    rotation: Float[np.ndarray, "3 3"],
    translation: Float[np.ndarray, "3"],
) -> Prediction:
    """A prediction after a similarity of its world; Gaussians are scaled and turned with it."""
    from mvdust3r_jax.reconstruction.known_world import moved_gaussians

    points = (scale * found.points @ rotation.T + translation).astype(np.float32)
    return Prediction(points, found.confidence, moved_gaussians(found.gaussians, scale, rotation))


# ---------------------------------------------------------------- answers that are kept


def _digest(variables: dict) -> str:
    """Of all weights."""
    total = hashlib.sha256()
    for leaf in jax.tree.leaves(variables):
        total.update(np.ascontiguousarray(leaf))
    return total.hexdigest()


def _kept(ask: Ask, variables: dict, pixels: np.ndarray, folder: Path | None, key: str) -> Answer:
    """The answer of one window, asked for unless it lies in the folder."""
    if folder is None:
        return ask(variables, pixels)
    name = hashlib.sha256(key.encode() + b"\0" + pixels.tobytes()).hexdigest()[:32]
    path = folder / f"window_{name}.npz"
    answer = _read(path, pixels.shape)
    if answer is not None:
        return answer
    answer = ask(variables, pixels)
    folder.mkdir(parents=True, exist_ok=True)
    pred = answer.prediction
    arrays = {"points": pred.points, "confidence": pred.confidence}
    arrays |= vars(pred.gaussians) if pred.gaussians is not None else {}
    with whole_file(path) as partial, open(partial, "wb") as file:
        np.savez(file, reference=np.int32(answer.reference), **arrays)
    return answer


def _read(path: str | os.PathLike, shape: tuple[int, ...]) -> Answer | None:
    """A kept answer; None if there is none, or none that fits (it is made anew)."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays: dict[str, Any] = dict(stored)
    except Exception:
        return None
    named = {name: arrays[name] for name in gaussian_names() if name in arrays}
    lacking = {"points", "confidence", "reference"} - set(arrays)
    if lacking or len(named) not in (0, len(gaussian_names())) or arrays["points"].shape != shape:
        return None
    gaussians = Gaussians(**named) if named else None
    prediction = Prediction(arrays["points"], arrays["confidence"], gaussians)
    return Answer(prediction, int(arrays["reference"]))
