"""Cameras out of pointmaps (focal length, PnP), and cameras that are known, read from files.

May use: geometry, chunked. Door: ``from_pointmaps.cameras_from_pointmaps``,
``from_pointmaps.confident_focal``, ``from_pointmaps.poses_from_pointmaps``, ``known.read_cameras``.
"""
