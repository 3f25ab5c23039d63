"""How far a COLMAP model's observations are from its points, by pycolmap's own cameras."""

import numpy as np


def colmap_errors(model):
    """Distance in pixels of every observation to its point's projection, by pycolmap's camera."""
    errors = []
    for point in model.points3D.values():
        for element in point.track.elements:
            image = model.images[element.image_id]
            seen = image.points2D[element.point2D_idx]
            assert seen.has_point3D()
            errors.append(np.linalg.norm(image.project_point(point.xyz) - seen.xy))
    return np.array(errors)
