"""Configurations: what does not fit is said at once; every config that ships makes its objects."""

import dataclasses
import importlib
import json
from pathlib import Path

import ml_collections
import pytest
from absl import flags
from ml_collections import config_flags

import eval as program
from configs import build, defaults, eval_rooms, paper_mixture
from data.training_batches import make_source
from mvdust3r_jax import VARIANTS
from mvdust3r_jax.training.objective_config import ObjectiveConfig
from mvdust3r_jax.training.optimizer import OptimizerConfig
from mvdust3r_jax.training.parallel import AXIS
from mvdust3r_jax.training.state import StepConfig
from tests.train_test import smallest


def test_evaluation_with_another_number_of_targets_is_refused():
    """The evaluation step splits views by the training's number; the same number may be named."""
    config = smallest()
    config.data.num_targets = 1
    config.eval = {"held_out": {"num_targets": 1}}
    build.check(config)
    config.eval = {"held_out": {"num_targets": 2}}
    with pytest.raises(ValueError, match=r"eval.held_out.num_targets = 2 .*data.num_targets = 1"):
        build.check(config)


@pytest.mark.parametrize("fields", [{"parallel": "fsdp"}, {"remat": "full"}])
def test_layers_are_gathered_one_at_a_time_where_that_can_save_memory(fields):
    """With cut parameters and rematerialization alone; what came is quoted."""
    config = smallest()
    config.update({"gather": "layer", "parallel": "pmap", "remat": ""} | fields)
    with pytest.raises(ValueError, match="gather='layer' needs parallel='fsdp', and remat"):
        build.check(config)
    config.update({"parallel": "fsdp", "remat": "full"})
    build.check(config)


def test_config_with_an_unknown_field_is_refused():
    """Unknown and missing fields are listed together, nested ones by their path."""
    config = ml_collections.ConfigDict(smallest().to_dict())
    config.learning_rate = 0.1
    config.data.batchsize = 4
    del config.loss.rgb
    config.eval.held_out.splits = "test"
    expected = (
        "unknown field learning_rate; unknown field data.batchsize (closest: batch_size); "
        "missing field loss.rgb; unknown field eval.held_out.splits (closest: split)"
    )
    with pytest.raises(ValueError) as error:
        build.check(config)
    for part in expected.split("; "):
        assert part in str(error.value)


def test_misspelled_override_is_refused():
    """A config object is locked: assigning a field that does not exist is an error."""
    with pytest.raises(AttributeError, match="peak_lr"):
        smallest().peaklr = 0.1


@pytest.mark.parametrize(
    "fields", [{"variant": "huge"}, {"parallel": "none"}, {"data.source": "web"}]
)
def test_bad_choices_are_refused(fields):
    """Unknown variants, ways of spreading and sources are quoted with the known ones."""
    config = smallest()
    config.update_from_flattened_dict(fields)
    with pytest.raises(ValueError, match="must be .*got"):
        build.network(config)
        make_source(process_index=0, process_count=1, **build.data_settings(config))
        build.chips(config)


# ml_collections loads configs in an old way.
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
@pytest.mark.parametrize("name", ["mvd", "mvdp_stage1", "mvdp_stage2"])
def test_published_configs_take_the_data_root_from_the_command_line(name):
    """``--config configs/NAME.py:/data``: the paper's sets, evaluated on rooms for validation."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values)
    values(["train.py", f"--config=configs/{name}.py:/data"])
    config = values.config
    assert config.data.mixture == paper_mixture.paper_mixture("/data")
    assert config.data.num_inputs == (tuple(range(4, 13)) if name == "mvdp_stage2" else (8,))
    assert config.eval.to_dict() == {"held_out": {"split": "validation"}}
    assert config.total_steps == 100 * (150_000 // 512)
    build.check(config)


ROOT = Path(__file__).parents[2]
NAMES = sorted(p.stem for p in (ROOT / "configs").glob("*.py") if "def get_config" in p.read_text())


@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith(("eval_",))])
def test_shipped_configs_fit(name):
    """Every config passes the check and gives a model and an objective."""
    config = importlib.import_module(f"configs.{name}").get_config()
    build.check(config)
    _, optimizer, objective, _ = build.parts(config)
    assert optimizer.total_steps == config.total_steps
    assert objective.num_refs == config.num_refs


def test_every_field_reaches_the_objects():
    """None of them is left at its default, which a field that is passed over would have."""
    config = defaults.get_config()
    config.update_from_flattened_dict(
        {"variant": "world", "dtype": "bfloat16", "remat": "full", "sh_degree": 2}
        | {"num_refs": 3, "data.num_targets": 1}
        | {"loss.rgb": 2.0, "loss.render_paths": 2, "loss.render_views": 4}
        | {"optimizer": "muon", "peak_lr": 2e-4, "final_lr": 3e-6, "warmup_steps": 5}
        | {"total_steps": 700, "decay_steps": 30, "b1": 0.8, "b2": 0.85, "weight_decay": 0.1}
        | {"clip_norm": 2.0, "freeze": ("encoder/.*",), "accumulation": 2, "average_decay": 0.99}
    )
    network, *others = build.parts(config)
    expected = dict(dtype="bfloat16", remat=True, sh_degree=2, bn_axis_name=AXIS)
    assert network == dataclasses.replace(VARIANTS["world"], **expected)
    steps = dict(warmup_steps=5, total_steps=700, decay_steps=30)
    decays = dict(b1=0.8, b2=0.85, weight_decay=0.1, clip_norm=2.0, freeze=("encoder/.*",))
    rendered = dict(render_paths=2, render_views=4, sh_degree=2, max_scale=3e-2)
    assert others == [
        OptimizerConfig("muon", 2e-4, 3e-6, **steps, **decays),
        ObjectiveConfig(3, 1, {"confidence": 1.0, "rgb": 2.0}, **rendered),
        StepConfig(2, 0.99),
    ]
    for made in others:
        for field in dataclasses.fields(made):
            assert getattr(made, field.name) != field.default, field.name


@pytest.mark.parametrize(
    "fields, devices, words",
    [
        ({"batch_size": 8}, 3, "batch of 8 samples cannot be shared by 3 devices in 1 parts"),
        ({"batch_size": 8, "parts": 2}, 8, "choose a multiple of 16"),
        ({"images_per_step": 24, "num_inputs": (2, 4)}, 4, "batch of 6 samples"),
        ({"batch_size": 8, "mesh": (0, 2)}, 32, "share views 2 by 2 in 1 parts: .* of 16"),
        ({"batch_size": 2, "mesh": (0, 2), "parallel": "pmap"}, 4, "by 4 devices in .* of 4"),
    ],
)
def test_batches_that_devices_cannot_share_are_refused(fields, devices, words):
    """With what they must be a multiple of; the same batch on fewer devices is none."""
    config = defaults.get_config()
    config.accumulation = fields.pop("parts", 1)
    config.mesh = fields.pop("mesh", (0, 1))
    config.parallel = fields.pop("parallel", "fsdp")
    config.data.update(fields)
    build.check_shares(config, 2)
    with pytest.raises(ValueError, match=words):
        build.check_shares(config, devices)


def test_sets_to_evaluate_on_keep_their_order():
    """The first one decides; readers of a checkpoint find it first in its config as well."""
    config = defaults.get_config()
    config.eval = {"views": {"num_inputs": (4,)}, "photographs": {}, "held_out": {}}
    assert list(build.eval_settings(config)) == ["views", "photographs", "held_out"]
    saved = json.loads(config.to_json_best_effort())["eval"]
    assert list(saved) == ["views", "photographs", "held_out"]


def test_evaluations_batches_are_shared_as_well():
    """Those of a set that has other sizes than training; none where the run never evaluates."""
    config = defaults.get_config()
    config.eval = {"few": {"batch_size": 6}, "many": {"images_per_step": 24, "num_inputs": (2, 6)}}
    build.check_shares(config, 2)
    with pytest.raises(ValueError, match="batch of 6 samples .*for eval.few.batch_size"):
        build.check_shares(config, 4)
    del config.eval["few"]
    with pytest.raises(ValueError, match="batch of 4 samples .*for eval.many.batch_size"):
        build.check_shares(config, 8)
    config.eval_every = 0
    build.check_shares(config, 8)


def test_the_best_metric_is_one_that_is_computed():
    """A term without weight is not; that would end the run at its first evaluation."""
    config = defaults.get_config()
    for name in ("nd", "loss", "confidence", "regression"):
        config.best_metric = name
        build.check(config)
    config.best_metric = "rgb"
    with pytest.raises(ValueError, match="best_metric must be one of nd, loss, .*got 'rgb'"):
        build.check(config)
    config.loss.rgb = 1.0
    build.check(config)
    config.loss.rgb, config.eval_every = 0.0, 0
    build.check(config)


def test_milestones_are_steps_that_are_saved():
    """Others would never be kept, in silence."""
    config = defaults.get_config()
    config.checkpoint_every, config.milestone_every = 100, 1_000
    build.check(config)
    config.milestone_every = 150
    with pytest.raises(ValueError, match="multiple of checkpoint_every"):
        build.check(config)


def test_the_mean_is_over_as_many_trajectories_however_few_are_evaluated():
    """Else a short evaluation would compare with another baseline."""
    config = eval_rooms.get_config()
    config.datasets.rooms.count, config.mean_samples = 1, 7
    (training,) = program.training_sets(config).values()
    assert len(training.ids(4, 0)) == 7
    (evaluated,) = program.data_sets(config).values()
    assert len(evaluated.ids(4, 0)) == 1
