"""Photographs and videos as pixels: any file, size, aspect and orientation to what a network takes.

The one reader of each kind of file. May use: nothing here. Door: ``photographs.read_photo``,
``photographs.fit_photo``, ``photographs.list_images``, ``video_frames.read_frames``.
"""
