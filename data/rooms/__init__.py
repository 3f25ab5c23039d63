"""Procedural furnished rooms: scenes, cameras and RGB-D views from one integer seed.

May use: stored (a copy on disk). Door: the names below; ``stream.RoomsSource`` for training,
``builder.RoomsDataset`` for the copy.
"""

from data.rooms.moving import MovingBatch as MovingBatch
from data.rooms.moving import moving_batch as moving_batch
from data.rooms.options import Options as Options
from data.rooms.options import options_from as options_from
from data.rooms.render import RoomViews as RoomViews
from data.rooms.render import render as render
from data.rooms.sample import sample_batch as sample_batch
from data.rooms.sample import sample_trajectory as sample_trajectory
from data.rooms.scene import ROOMS_VERSION as ROOMS_VERSION
from data.rooms.scene import SPLITS as SPLITS
from data.rooms.scene import Scene as Scene
from data.rooms.scene import make_scene as make_scene
