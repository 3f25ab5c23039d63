"""Every field of a training configuration, with the value it has unless a config says otherwise.

A config starts from ``get_config()`` and overrides; a field that does not stand here is an error.
"""

from __future__ import annotations

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """MV-DUSt3R+ without rendering; the other configs change what they need."""
    config = ml_collections.ConfigDict()

    # Model
    config.variant = "mvdp"  # row of VARIANTS
    config.dtype = "float32"  # of matrix products; 'bfloat16' on accelerators
    config.remat = (
        ""  # '' keeps activations, 'full' recomputes all, or a jax.checkpoint_policies name
    )
    config.sh_degree = 0  # of the Gaussians' colors

    # Start: '' for random weights, or what mvdust3r_jax.weights reads (.pth, .safetensors, orbax)
    config.init_from = ""

    # Data
    config.data = ml_collections.ConfigDict()
    config.data.source = (
        "rooms"  # 'rooms' (made on the fly), 'records' (built data sets), 'box' (tests)
    )
    config.data.mixture = ()  # 'records': (folder of a built data set, weight) pairs
    config.data.batch_size = 8  # samples a step over all processes
    # rooms: input images a step instead, 0 = batch_size counts: fewer samples the more views
    config.data.images_per_step = 0
    # Views V, each at least 2; each batch draws one entry, each is compiled once
    config.data.num_inputs = (8,)
    config.data.num_targets = 2  # render-only views T
    config.data.height = 224  # pixels; a multiple of the variant's patch, like width
    config.data.width = 224
    config.data.seed = 0  # below 2**32, like config.seed
    config.data.prefetch = 2  # batches put on the chips ahead of time, at least 1
    config.data.threads = 4  # records: that decode, in each process
    config.data.read_ahead = 16  # records: samples decoded in advance, 16 bytes a pixel and view
    config.data.augment = True  # records: colors, zoom, order of views vary in split 'train'
    config.data.split = "train"  # or 'validation', 'test': other rooms, other scenes
    config.data.baseline = (0.5, 1.5)  # rooms: how far apart views are; 1 = a few steps
    config.data.reuse = 1  # rooms: steps that see a batch, each time another view is the reference
    # rooms: fields of data.rooms.Options that differ from furnished rooms of 3 to 8 m
    config.data.options = ml_collections.ConfigDict()
    config.data.recolor = 0.0  # rooms: share of samples whose surfaces get other colors
    config.data.photographic = 0.0  # rooms: strength of a camera's faults in input views, 0 to 1

    # Objective; a term of weight 0 is not computed
    config.num_refs = 4  # paths R
    config.loss = ml_collections.ConfigDict()
    config.loss.confidence = 1.0
    config.loss.regression = 0.0
    config.loss.rgb = 0.0
    config.loss.lpips = 0.0
    config.loss.scale_clip = 0.0
    config.loss.sh_color = 0.0  # 10 in the release, for sh_degree > 0
    config.loss.render_paths = 0  # paths rendered a step, drawn at random; 0 = all
    config.loss.render_views = 0  # views rendered a step, drawn at random; 0 = all

    # Optimizer
    config.total_steps = 1_000  # at which the learning rate has become final_lr
    config.stop_step = 0  # where the run ends, 0 = at total_steps
    config.warmup_steps = 10
    # 0: half a cosine after the warm-up; else the rate stays at its peak until these last steps,
    # so that total_steps may be moved until then.
    config.decay_steps = 0
    config.optimizer = "adamw"  # or 'muon' for the blocks' matrices, AdamW for the rest
    config.peak_lr = 1.5e-4
    config.final_lr = 1e-6
    config.b1 = 0.9
    config.b2 = 0.95
    config.weight_decay = 0.05
    config.clip_norm = 0.0  # global norm, 0 = off
    config.accumulation = 1  # parts of each batch; with the skip CNN each has its own statistics
    config.average_decay = 0.0  # moving average of the parameters, 0 = off
    config.freeze = ()  # regular expressions of parameter paths, e.g. ('encoder/.*',)
    config.max_skipped_in_row = 20  # non-finite steps until the run stops

    # Chips: 'pmap' (state copied to each) or 'fsdp' (state sharded); the mesh is (batch, views)
    config.parallel = "pmap"
    config.mesh = (0, 1)  # 0 = all devices
    # fsdp: parameters of a whole 'step' are gathered at a time, or of a 'layer' (needs remat)
    config.gather = "step"
    config.slices = 1  # fsdp: TPU slices, each with a whole state; the mesh's batch is cut by them

    # Logging, evaluation, checkpoints; in steps, 0 = never
    config.seed = 0
    config.log_every = 50
    config.pictures_every = 1_000  # of the steps that are evaluated
    config.eval_every = 1_000
    config.eval_batches = 8
    # Sets to evaluate on: name -> fields of data that differ; best_metric of the first decides.
    # Where they do not say otherwise they are not augmented, and reuse is 1; the rest is data's.
    config.eval = ml_collections.ConfigDict({"held_out": {"split": "validation"}})
    config.best_metric = "nd"
    config.checkpoint_every = 1_000
    config.keep_checkpoints = 2
    config.milestone_every = 0  # checkpoints of these steps stay for ever, beside the newest
    config.save_minutes = 20.0  # a save that takes longer has failed
    config.stall_minutes = 30.0  # without a finished step: the run ends; 0 = it may stand for ever
    config.tensorboard = True
    # From here on a misspelled field is an error.
    config.lock()
    config.data.options.unlock()
    return config
