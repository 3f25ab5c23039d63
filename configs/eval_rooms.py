"""The paper's tables on procedural rooms (test seeds): 100 trajectories, 4 to 24 views of 64x64.

python eval.py --config configs/eval_rooms.py --weights WEIGHTS --workdir /tmp/eval_rooms

Shorter: --config.views=4,8 --config.methods=constant,mvdp --config.datasets.rooms.count=20
"""

import ml_collections


def get_config():
    """All fields of an evaluation."""
    config = ml_collections.ConfigDict()

    # Sets: name -> source and its settings. split_file: a saved list of trajectories, '' = default
    config.datasets = ml_collections.ConfigDict()
    config.datasets.rooms = ml_collections.ConfigDict()
    config.datasets.rooms.source = "rooms"
    config.datasets.rooms.split = "test"
    config.datasets.rooms.count = 100
    config.datasets.rooms.height = 64
    config.datasets.rooms.width = 64
    config.datasets.rooms.split_file = ""

    # Numbers of input views, and of render-only views for each of them (or one for all)
    config.views = "4,8,12,16,20,24"
    config.num_targets = "1,2,3,4,5,6"

    # constant (a wall), mean (the training split's mean pointmaps), oracle (the truth): no network.
    # mvd: one path. mvdp: num_refs paths, the first one counts.
    # mvdp_best: the path nearest to the truth. pairwise: two views at a time, then global alignment
    config.methods = "constant,mean,oracle,mvd,mvdp,mvdp_best,pairwise"
    config.num_refs = 4
    config.mean_samples = 200  # training trajectories that 'mean' averages over

    # Pairwise baseline: its own weights, '' = the same as for the other methods
    config.pairwise_weights = ""
    config.pairwise_graph = "complete"  # or 'window', 'reference'
    config.pairwise_window = 4  # neighbours on either side, graph 'window' only
    config.pairwise_steps = 300
    config.pairwise_batch = 8  # pairs in one forward pass

    config.batch_per_device = 1  # trajectories at once on each device
    config.devices = 0  # local devices to use, 0 = all
    config.dtype = ""  # of matrix products; '' = as trained
    config.chamfer = "auto"  # 'blocked', 'kdtree', or 'auto': kdtree on a CPU
    config.pictures = 2  # best and worst scenes drawn for each dataset and method
    return config
