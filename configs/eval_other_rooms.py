"""Rooms that differ from those of training in one respect each: how far a network generalizes.

python eval.py --config configs/eval_other_rooms.py --weights weights/room_mvd.safetensors \\
    --workdir DIR
"""

from configs import eval_defaults, eval_rooms

# The file that ships was last trained on rooms of 2.4 to 8 m, three in ten several-room flats, 40
# to 80 degrees, full light, half of them fitted and half of the cameras in a hand.
OTHER = {
    "hand_held": {"hand_held": 1.0},
    "fitted": {"fitted": 1.0},
    "flats": {"multi_room": 1.0},
    "halls": {"room_min": 8.0, "room_max": 12.0},
    "telephoto": {"fov_deg": (35.0, 50.0)},
    "wide_angle": {"fov_deg": (80.0, 95.0)},
    "dark": {"dark": 0.2},
    "crowded": {"density": (0.75, 1.2)},
}


def get_config():
    """Level cameras, then each change; 'mean' is the mean pointmap of rooms changed likewise."""
    config = eval_rooms.get_config()
    config.datasets.rooms.update(count=25, height=128, width=128)
    for name, options in OTHER.items():
        fields = config.datasets.rooms.to_dict() | {"options": options}
        config.datasets[name] = eval_defaults.dataset(**fields)
    config.views = "8"
    config.num_targets = "2"
    config.methods = "mean,mvd_middle"
    return config
