"""One scene of one's own: 8 M parameters on a built RGB-D set, half an hour on two cores.

python -m data.build rgbd --layout 7scenes --root SCENES --choice choice.npz --out DATA \
    --validation-tail 0.2 --test-tail 0.2 ...
python train.py --config configs/scene.py --workdir runs/scene \
    '--config.data.mixture=(("DATA/rgbd",1.0),)'
"""

from configs import small_mvd


def get_config():
    """Four views of 64x64, points only."""
    config = small_mvd.get_config()
    config.data.source = "records"
    config.data.mixture = (("data_sets/rgbd", 1.0),)
    config.total_steps, config.stop_step = 1_200, 0
    config.warmup_steps = 100
    config.eval_every = 200
    config.eval = {"held_out": {"split": "validation"}}
    config.pictures_every = 400
    return config
