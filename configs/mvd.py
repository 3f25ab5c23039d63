"""MV-DUSt3R: 8 input and 2 render-only views at 224x224, one path, global batch 512, 100 epochs.

    python train.py --config configs/mvd.py:DATA --workdir DIR \\
        --config.init_from=DUSt3R_ViTLarge_BaseDecoder_224_linear.pth

The published run: 32 GPUs x 8 samples x 2 accumulated, 150,000 trajectories an epoch from ScanNet,
ScanNet++ and Habitat. DATA holds these data sets under the names in ``configs/paper_mixture.py``,
with the splits train and validation (rooms of their own: ``--validation-share`` of ``data.build``);
for others leave ``:DATA`` away and set ``data.mixture`` to their folders. The split test is for
``eval.py`` alone.
"""

from configs import defaults, paper_mixture

BATCH_SIZE = 512
EPOCH_STEPS = paper_mixture.TRAJECTORIES_PER_EPOCH // BATCH_SIZE


def get_config(root=""):
    """The published recipe on the data sets below ``root``; bfloat16 products instead of TF32."""
    config = defaults.get_config()
    config.variant = "mvd"
    config.dtype = "bfloat16"
    config.num_refs = 1
    config.data.source = "records"
    config.data.mixture = paper_mixture.paper_mixture(root) if root else ()
    config.data.batch_size = BATCH_SIZE
    config.data.num_inputs = paper_mixture.STAGE_1_INPUTS
    config.data.num_targets = paper_mixture.RENDER_ONLY_VIEWS
    config.loss.confidence = 1.0
    config.loss.rgb = 1.0
    config.loss.lpips = 1.0
    config.loss.scale_clip = 1.0
    config.total_steps = 100 * EPOCH_STEPS
    config.warmup_steps = EPOCH_STEPS
    config.accumulation = 2
    config.remat = "full"
    return config
