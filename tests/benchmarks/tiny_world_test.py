"""The tiny world's driver: what is compared with what, and how sure the difference is."""

import json

import numpy as np
import pytest

from benchmarks import tiny_world
from benchmarks import tiny_world_costs as costs
from benchmarks import tiny_world_questions as questions
from benchmarks import tiny_world_tables as tables
from configs import build
from configs import tiny_world as arms


@pytest.mark.parametrize("arm", arms.ARMS)
def test_every_arm_is_a_configuration(arm):
    """Names, types and counts of every arm fit."""
    config = arms.get_config(f"{arm},3")
    build.check(config)
    assert build.parts(config).network.gaussians == (config.data.num_targets > 0)
    assert config.data.seed == 3 + ("later" in arm) * arms.LATER


def test_arms_of_a_question_exist():
    """No question asks for an arm that nobody trains, and all of one have the same start."""
    asked = {row.arm for question in questions.QUESTIONS.values() for row in question.rows}
    assert asked == set(arms.ARMS) - {"start"}
    assert not arms.get_config("start").init_from
    for question in questions.QUESTIONS.values():
        begins = {arms.get_config(f"{arm},2").init_from for arm in question.arms}
        assert len(begins) == 1 and begins <= {arms.START, f"{arms.RUNS}/pairs_2"}


def test_equal_time_is_the_cheapest_arms():
    """An arm of twice the cost gets half the steps, a multiple of what is kept."""
    question = questions.QUESTIONS["paths"]
    cost = {"one_path": 1.0, "four_paths_apart": 2.0, "four_paths": 3.0}
    steps = questions.steps_in_equal_time(question, cost, 3000)
    assert steps == {"one_path": 3000, "four_paths_apart": 1500, "four_paths": 1000}


def test_equal_time_is_left_out_where_it_changes_nothing():
    """Costs that differ by less than rounding give one table, not two of the same rows."""
    question = questions.QUESTIONS["later"]
    alike, other = {"pairs_later": 1.0, "four_views_later": 1.05}, {"pairs_later": 2.0}
    assert list(questions.plans(question, alike, 4000)) == ["Equally many steps"]
    assert "Equal time" in questions.plans(question, alike | other, 4000)


def test_arms_of_one_program_cost_the_same():
    """Seeds, starts and reuse of batches are no part of a step; views and paths are."""
    groups = costs.programs(list(arms.ARMS))
    assert groups["start"] == ["start", "pairs", "pairs_later"]
    assert groups["four_views"] == ["four_views", "four_views_later"]
    assert len(groups) == 6
    assert set(costs.read_costs()) == set(arms.ARMS) - {"start"}


def test_an_arm_that_went_on_is_not_judged_as_what_it_was(tmp_path, monkeypatch):
    """A folder at step 20 says nothing of step 10; at step 10 it is taken as it is."""
    monkeypatch.setattr(tiny_world, "run", lambda command: pytest.fail(f"ran {command}"))
    (tmp_path / "pairs_1" / tiny_world.NEWEST / "20").mkdir(parents=True)
    (tmp_path / "pairs_2" / tiny_world.NEWEST / "10").mkdir(parents=True)
    runs = tiny_world.Runs(tmp_path, 10)
    with pytest.raises(SystemExit, match="at step 20, and 10 is to be judged"):
        tiny_world.train("pairs", 1, 10, runs)
    assert tiny_world.train("pairs", 2, 10, runs) == tmp_path / "pairs_2"


def test_an_arm_begins_as_another_one_that_is_trained(tmp_path):
    """After twice the steps, of its own seed; before that it is refused."""
    (tmp_path / "pairs_1" / tiny_world.NEWEST / "20").mkdir(parents=True)
    (tmp_path / "pairs_2" / tiny_world.NEWEST / "10").mkdir(parents=True)
    runs = tiny_world.Runs(tmp_path, 10)
    assert tiny_world.begin("four_views_later", 1, runs) == str(tmp_path / "pairs_1")
    with pytest.raises(SystemExit, match="begins as .*pairs_2 at step 20: answer its question"):
        tiny_world.begin("four_views_later", 2, runs)


def test_interval_grows_with_disagreement_of_seeds():
    """Seeds that disagree widen the interval, however many rooms agree within a seed."""
    rooms = np.random.default_rng(0).normal(size=(1, 200)) * 0.1
    agree, differ = np.zeros((3, 1)) + rooms, np.array([[-1.0], [0.0], [1.0]]) + rooms
    widths = []
    for values in (agree, differ):
        mean, low, high = tables.interval_over_seeds_and_rooms(values)
        assert low <= mean <= high
        widths.append(high - low)
    assert widths[1] > 10 * widths[0]


def test_table_shows_paired_differences(tmp_path, monkeypatch):
    """Rooms of very different difficulty do not hide a small constant gain."""
    monkeypatch.setattr(questions, "KEPT", tmp_path)
    hard = np.linspace(0.1, 5.0, 50)
    question = questions.QUESTIONS["pairs"]
    for arm, method, gain in (("pairs", "pairwise", 0.0), ("four_views", "mvd", 0.1)):
        scores = {name: list(hard - gain) for name in question.numbers}
        path = questions.kept_file(arm, 1, 500)
        path.write_text(json.dumps({f"{method} 4": scores}))
    text = tables.table(question, 1, {"pairs": 500, "four_views": 500})
    assert "(-0.1 [-0.1, -0.1])" in text
    assert "not run yet" in text  # mvd_middle
    missing = tables.table(question, 2, {"pairs": 500, "four_views": 500})
    assert "(-0.1" not in missing


def test_as_many_seeds_are_shown_as_all_rows_have(tmp_path, monkeypatch):
    """Each seed's difference stands beside the interval; a seed that lacks a row is left out."""
    monkeypatch.setattr(questions, "KEPT", tmp_path)
    question = questions.QUESTIONS["later"]
    steps = dict.fromkeys(question.arms, 500)
    for seed in (1, 2, 3):
        for row in question.rows[: 2 if seed == 3 else None]:
            path = questions.kept_file(row.arm, seed, 500)
            kept = json.loads(path.read_text()) if path.exists() else {}
            gain = 0.1 * seed * (row.arm == "four_views_later")
            kept[f"{row.method} 4"] = {name: [1.0 - gain] * 4 for name in question.numbers}
            path.write_text(json.dumps(kept))
    assert tables.judged_seeds(question, 3, steps) == 2
    assert "(-0.15 [-0.2, -0.1]; -0.1, -0.2)" in tables.table(question, 2, steps)
