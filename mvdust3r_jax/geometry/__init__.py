"""Frames, cameras, pointmaps and alignments: small pure functions over ``[..., n]`` arrays.

May use: types. Doors: ``transforms``, ``camera``, ``pixels``, ``pointmaps``, ``align``, ``truth``.
"""
