"""Cameras out of pointmaps (focal length, PnP), and cameras that are known, read from files.

May use: geometry, chunked. Door: ``from_pointmaps.focal_from_pointmap``,
``from_pointmaps.poses_from_pointmaps``, ``known.read_cameras``.
"""
