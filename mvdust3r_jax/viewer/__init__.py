"""A web page that shows a scene, and reconstructs photographs dropped on it (extra ``demo``).

May use: export, media, storage. Door: the names below.
"""

from mvdust3r_jax.viewer.requests import Limits as Limits
from mvdust3r_jax.viewer.server import DEFAULT_PORT as DEFAULT_PORT
from mvdust3r_jax.viewer.server import Viewer as Viewer
