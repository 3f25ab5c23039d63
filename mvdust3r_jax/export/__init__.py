"""What a reconstruction leaves as: one table of formats for the command line and `Scene.save`.

Each exporter is a function of ``(path, scene)`` that writes one file (or folder) and leaves
nothing half-written. They write every pixel of ``scene.masks``; `write` narrows that mask first.

May use: geometry, media, splat, storage. Door: the names below.
"""

from mvdust3r_jax.export.formats import EXPORTERS as EXPORTERS
from mvdust3r_jax.export.formats import Exporter as Exporter
from mvdust3r_jax.export.formats import check as check
from mvdust3r_jax.export.formats import with_path_video as with_path_video
from mvdust3r_jax.export.formats import with_videos as with_videos
from mvdust3r_jax.export.formats import write as write
from mvdust3r_jax.export.point_filter import Kept as Kept
from mvdust3r_jax.export.point_filter import NoPointsError as NoPointsError
from mvdust3r_jax.export.point_filter import PointFilter as PointFilter
from mvdust3r_jax.export.point_filter import keep as keep
