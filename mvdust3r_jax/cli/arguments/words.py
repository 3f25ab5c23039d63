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
# export.EXPORTERS, and what each writes
FORMATS = {
    "ply": "colored points with confidence",
    "glb": "points and camera frusta, y up",
    "3dgs": "Gaussians in the standard 3DGS layout",
    "colmap": "images/ and sparse/0/, as trainers open it",
    "colmap-text": "the same as text files",
    "nerfstudio": "transforms.json and seed points",
    "npz": "all arrays, the filtered mask included",
    "cameras": "poses and intrinsics, both resolutions, as JSON",
    "preview": "contact sheet: photographs, depth, confidence",
    "depth": "depth and confidence of each view as files",
    "mesh": "surface of the fused depth maps, .ply and .glb",
    "html": "one self-contained page with a 3-D view",
    "mp4": "orbit and fly-through of the Gaussians",
}
