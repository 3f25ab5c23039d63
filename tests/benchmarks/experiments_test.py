"""The experiments' commands fit the configs they name, and their page."""

import importlib
from pathlib import Path

import pytest

from benchmarks import experiments, speed_page
from configs import ablation


@pytest.mark.parametrize("name", experiments.NAMES)
def test_commands_name_configs_and_fields_that_exist(name):
    """Each ``--config`` is a file, its part is known, and each override is one of its fields."""
    trainings, evaluations = experiments.plan(name, "W", Path("runs"))
    assert evaluations
    for command in [*trainings, *evaluations.values()]:
        file, _, part = command[command.index("--config") + 1].partition(":")
        module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
        config = module.get_config(part) if part else module.get_config()
        for change in (c for c in command if c.startswith("--config.")):
            field, _, value = change.removeprefix("--config.").partition("=")
            *path, last = field.split(".")
            for key in path:
                config = config[key]
            # What is a number in the config must be given as one.
            type(config[last])(value)
            config = module.get_config(part) if part else module.get_config()


def test_page_has_a_place_for_every_table():
    """Markers of all experiments, each closed."""
    text = experiments.PAGE.read_text()
    assert all(f"<!-- table {name} -->" in text for name in experiments.TABLES)
    assert text.count("<!-- table") == text.count("<!-- end -->") == len(experiments.TABLES)


@pytest.mark.parametrize("part", ["points", "multi", "pairs"])
def test_points_alone_are_trained_without_any_rendering(part):
    """No loss of an image is left, and no view to render."""
    config = ablation.get_config(part)
    assert config.data.num_targets == 0
    assert (config.loss.rgb, config.loss.lpips, config.loss.scale_clip) == (0, 0, 0)


@pytest.mark.parametrize("page", [experiments.PAGE, experiments.CARD], ids=lambda p: p.parent.name)
def test_tables_of_a_page_are_those_of_the_results(page):
    """Nobody wrote a number by hand, and nothing was measured again without its page."""
    text = page.read_text()
    assert "<!-- table card -->" in text
    assert experiments.with_tables(text) == text


def test_speed_page_is_that_of_the_results():
    """The same for the page that is wholly made."""
    assert speed_page.page() == speed_page.PAGE.read_text()


def test_methods_of_several_evaluations_are_paired_by_room():
    """Rooms of very different difficulty do not hide a gain; what knows the truth is left out."""

    def records(method, gain):
        rooms = {f"room{i}": 1.0 + i for i in range(20)}
        known = {"dataset": "rooms", "views": 8, "method": method}
        return [known | {"id": room, "nd": nd - gain} for room, nd in rooms.items()]

    found = experiments.paired(
        {"a": records("mvd", 0.0) + records("oracle", 1.0), "b": records("mvd", 0.1)}
    )
    assert list(found) == [("rooms", 8, "a mvd")]
    difference = found["rooms", 8, "a mvd"]
    assert difference["method"] == "b mvd"
    low, high = (difference["numbers"]["nd"][end] for end in ("low", "high"))
    assert low == pytest.approx(0.1) == high


def test_unknown_parts_are_refused():
    """The error lists the parts there are."""
    with pytest.raises(ValueError, match="refs4.*got 'refs9'"):
        ablation.get_config("refs9")
