"""Cameras out of pointmaps (focal length, PnP), refined on matched features, or read from files.

The one reader of camera files: JSON of several programs, COLMAP models, for photographs and data
sets alike. May use: geometry, media, chunked. Door: ``from_pointmaps.cameras_from_pointmaps``,
``from_pointmaps.confident_focal``, ``from_pointmaps.poses_from_pointmaps``, ``known.read_cameras``,
``colmap.read``, ``refinement.refine_cameras``.
"""
