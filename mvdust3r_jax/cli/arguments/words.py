"""Words that arguments may be, and defaults, of modules that are not loaded to parse them.

`tests/cli/arguments_test.py` compares each with what it stands for.
"""

from __future__ import annotations

# media.fitting.FITS, media.video_frames.CHOICES, cameras.known.Use
FITS = ("crop", "pad")
FRAME_CHOICES = ("even", "sharp")
USES = ("all", "intrinsics", "poses")
# weights.places.SHIPPED, weights.hub.PUBLISHED, weights.files.DTYPES
SHIPPED = ("room_mvd", "small")
PUBLISHED = ("MVD", "MVDp_s1", "MVDp_s2", "DUSt3R_224", "DUSt3R_512_dpt")
WEIGHT_DTYPES = ("float32", "bfloat16", "float16")
# models.config.VARIANTS, in alphabetical order
VARIANTS = (
    *("dust3r_224", "dust3r_512", "dust3r_512_dpt", "mvd", "mvdp", "room", "room_mvd"),
    *("small", "small_mvd", "small_mvd_skip", "tiny", "world", "world_mvd", "world_points"),
    "world_points_cross_ref",
)
# reconstruction.network.DEFAULT_REFS
REFS = 4
# export.drawing.VIDEO_PX
VIDEO_PX = 640
