"""Intrinsics of a camera whose principal point is that of the published recipe."""

import numpy as np


def pinhole(focal_px, height, width):
    """[..., 3, 3] float32 of focal lengths [...]: square pixels, the center at (W/2, H/2)."""
    intrinsics = np.zeros((*np.shape(focal_px), 3, 3), np.float32)
    intrinsics[..., 0, 0] = intrinsics[..., 1, 1] = focal_px
    intrinsics[..., :, 2] = width / 2, height / 2, 1
    return intrinsics
