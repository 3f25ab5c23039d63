"""Whether known poses are likely those of the photographs: compared with the network's own.

Another program's axes, world-to-camera matrices and mixed up names give no other sign than a scene
that does not fit together. Poses are camera-to-world; neither world nor scale is compared.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

# What is commonly mistaken, and how poses would be if it was.
_MISTAKES = {
    "with y and z of every camera reversed (OpenCV's axes against OpenGL's)": lambda poses: (
        poses @ np.diag([1.0, -1.0, -1.0, 1.0])
    ),
    "with the matrices inverted (world-to-camera against camera-to-world)": np.linalg.inv,
}
# Another reading is likelier if it leaves at most these shares of both errors, and the rotations of
# the poses as they are were wrong by at least so much.
_LEFT_TURNED, _LEFT_ASTRAY, _LEAST_DEG = 0.5, 0.75, 3.0
# Without one, poses contradict the photographs from here on. In ten generated rooms, by `room_mvd`
# and `small`, right poses are doubted once in 20 times, where a network was lost; mistaken axes and
# inverted matrices 39 of 40 times, another order of eight views 15 of 20, of three views 8 of 20.
_TURNED_DEG, _ASTRAY = 8.0, 1.2


class PoseErrors(NamedTuple):
    """turned_deg: median over the views. astray: mean distance of centers, shares of their spread.

    Once the network's poses lie as well as they can.
    """

    turned_deg: float
    astray: float

    def __str__(self) -> str:
        return (
            f"{self.turned_deg:.0f} degrees (median) and {self.astray:.1f} of the centers' spread"
        )


def mean_rotation(rotations: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "3 3"]:
    """The rotation nearest to all of them (chordal mean)."""
    u, _, vt = np.linalg.svd(rotations.sum(axis=0))
    return u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt


def pose_errors(found: Float[np.ndarray, "V 4 4"], known: Float[np.ndarray, "V 4 4"]) -> PoseErrors:
    """How far known poses are from those found of the same views; their centers differ."""
    rotation = mean_rotation(known[:, :3, :3] @ found[:, :3, :3].swapaxes(1, 2))
    rest = (rotation @ found[:, :3, :3]).swapaxes(1, 2) @ known[:, :3, :3]
    cosine = (np.trace(rest, axis1=1, axis2=2) - 1) / 2
    centers, targets = (poses[:, :3, 3] - poses[:, :3, 3].mean(axis=0) for poses in (found, known))
    spread = [max(np.linalg.norm(x, axis=1).mean(), 1e-300) for x in (centers, targets)]
    missed = np.linalg.norm(centers @ rotation.T / spread[0] - targets / spread[1], axis=1)
    turned_deg = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return PoseErrors(float(np.median(turned_deg)), float(missed.mean()))


def doubt(found: Float[np.ndarray, "V 4 4"], known: Float[np.ndarray, "V 4 4"]) -> str:
    """Why the known poses may be mistaken, in words; "" where nothing speaks against them."""
    told = pose_errors(found, known)
    others = {words: pose_errors(found, read(known)) for words, read in _MISTAKES.items()}
    words, best = min(others.items(), key=lambda item: sum(item[1]) / max(sum(told), 1e-9))
    likelier = best.turned_deg <= _LEFT_TURNED * told.turned_deg
    likelier &= best.astray <= _LEFT_ASTRAY * told.astray and told.turned_deg >= _LEAST_DEG
    if likelier:
        return f"they are off the network's by {told}, {words} by {best}"
    if told.turned_deg >= _TURNED_DEG and told.astray >= _ASTRAY:
        return f"they are off the network's by {told}: are they of these photographs?"
    return ""
