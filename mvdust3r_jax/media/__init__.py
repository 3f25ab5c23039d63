"""Photographs, masks and videos as pixels: the one reader of each kind of file.

Whatever a file says of its pixels (orientation, color, time) is applied, or it is refused by name.
May use: nothing here. Door: ``photographs.read_photo``, ``photographs.list_images``,
``masks.with_mask``, ``masks.read_mask``, ``fitting.fit_photo``, ``video_frames.read_frames``,
``names.natural_key``.
"""
