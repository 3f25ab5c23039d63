"""From photographs to a `Scene`: one forward pass, then focal lengths and poses."""

from __future__ import annotations

from mvdust3r_jax.scene import Cameras, Scene

__all__ = ["Cameras", "Scene"]
