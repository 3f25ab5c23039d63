"""Posed RGB-D folders (ScanNet, ScanNet++, 7-Scenes, or one's own) as a TFDS data set.

May use: stored. Door: ``layouts.LAYOUTS``, ``choose.choose``, ``builder.Rgbd``, ``splits.Splits``.
"""
