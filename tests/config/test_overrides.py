"""Overrides: sections that start from their default, changes of `type`, shared sections, numbers that are numbers."""

from pathlib import Path
from typing import Any

import pytest

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.selection import DEFAULT, FixedThreshold
from ssl_pipeline.config.yaml_text import write_yaml
from ssl_pipeline.errors import ConfigError
from tests.config.test_config import VALID

WITHOUT_SELECTION = {key: value for key, value in VALID.items() if key != "selection"}


def load(directory: Path, *overrides: str, content: dict[str, Any] | str = VALID) -> RunConfig:
    path = directory / "config.yaml"
    path.write_text(content if isinstance(content, str) else write_yaml(content))
    return load_config(path, overrides=overrides)


def test_an_override_of_an_omitted_section_starts_from_its_default(tmp_path: Path) -> None:
    config = load(tmp_path, "selection.confidence_threshold=0.6", content=WITHOUT_SELECTION)
    assert config.selection == DEFAULT.model_copy(update={"confidence_threshold": 0.6})
    config = load(tmp_path, "selection.guards.min_acceptance_rate=0", content=WITHOUT_SELECTION)
    assert config.selection.guards.min_acceptance_rate == 0
    config = load(tmp_path, "teacher.training.optimizer.weight_decay=0", "prediction.zooms.0=1.1", "shift.max_faces=60")
    assert config.teacher.training.optimizer.type == "adamw"
    assert config.prediction.zooms == (1.1,)
    assert config.shift is not None and config.shift.max_faces == 60


def test_an_override_reaches_into_a_section_that_is_null_or_given_by_its_type(tmp_path: Path) -> None:
    content = VALID | {"shift": None, "execution": "ray"}
    config = load(tmp_path, "shift.max_faces=60", "execution.max_retries=1", content=content)
    assert config.shift is not None and config.shift.max_faces == 60
    assert config.execution.model_dump()["max_retries"] == 1


@pytest.mark.parametrize("in_order", [True, False])
def test_another_type_drops_the_keys_that_only_the_former_has(tmp_path: Path, in_order: bool) -> None:
    section = {"type": "precision_guarantee", "target": 0.7, "delta": 0.2, "targets": "hard"}
    overrides = ["selection.type=fixed_threshold", "selection.confidence_threshold=0.6"]
    config = load(
        tmp_path, *(overrides if in_order else overrides[::-1]), content=WITHOUT_SELECTION | {"selection": section}
    )
    assert config.selection == FixedThreshold(type="fixed_threshold", confidence_threshold=0.6, targets="hard")


def test_another_type_inside_a_list_keeps_the_shared_keys(tmp_path: Path) -> None:
    config = load(tmp_path, "faces.labeled.sources.0.type=fairface", "faces.labeled.sources.0.subsets=[val]")
    assert config.faces.labeled.sources[0].model_dump(exclude_unset=True) == {
        "type": "fairface",
        "path": Path("utkface"),
        "subsets": ("val",),
    }


@pytest.mark.parametrize("order", [1, -1])
def test_a_key_that_an_override_sets_is_never_dropped(tmp_path: Path, order: int) -> None:
    overrides = ["selection.target=0.7", "selection.type=fixed_threshold"][::order]
    with pytest.raises(ConfigError, match=r"unknown key 'selection\.target'; precision_guarantee has it"):
        load(tmp_path, *overrides, content=WITHOUT_SELECTION)


def test_a_misspelled_key_survives_another_type(tmp_path: Path) -> None:
    content = WITHOUT_SELECTION | {"selection": {"type": "fixed_threshold", "guard": {}}}
    with pytest.raises(ConfigError, match=r"unknown key 'selection\.guard'; did you mean 'guards'"):
        load(tmp_path, "selection.type=self_adaptive", content=content)


@pytest.mark.parametrize("shared", ["student: *role", "student: {<<: *role}"])
def test_an_override_changes_one_of_two_sections_that_the_file_shares(tmp_path: Path, shared: str) -> None:
    role = "teacher: &role {model: {architecture: wrn10_1}, training: {epochs: 10}}"
    content = {key: value for key, value in VALID.items() if key not in ("teacher", "student")}
    text = f"{write_yaml(content)}{role}\n{shared}\n"
    config = load(tmp_path, "student.training.epochs=3", content=text)
    assert (config.teacher.training.epochs, config.student.training.epochs) == (10, 3)


def test_a_section_given_twice_is_refused(tmp_path: Path) -> None:
    text = write_yaml(VALID)
    with pytest.raises(ConfigError, match=r"config\.yaml: 'seed': given twice, in lines \d+ and \d+; keep one of them"):
        load(tmp_path, content=f"{text}seed: 1\nseed: 2\n")
    with pytest.raises(ConfigError, match=r"'selection': given twice"):
        load(tmp_path, content=f"{text}selection: {{type: self_adaptive}}\n")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("teacher.training.early_stopping_epochs=true", "a whole number, got True"),
        ("faces.labeled.limit=yes", "a whole number, got 'yes'"),
        ("teacher.training.optimizer.weight_decay=true", "a number, got True"),
        ("teacher.training.optimizer.learning_rate=.inf", "a finite number, got inf"),
        ("faces.labeled.sources.0.filter={min_age_years: .nan}", "a finite number, got nan"),
        ("teacher.training.ema_decay=.nan", "a finite number, got nan"),
        ("prediction.zooms=[1, .nan]", "a finite number, got nan"),
        ("labels.attributes.1.bin_edges=[.inf]", "a finite number, got inf"),
        ("student.training.optimizer={type: timm, name: lion, learning_rate: 1, options: {eps: .inf}}", "got inf"),
        ("teacher.training.epochs=2.0", "a whole number, got 2.0"),
        ("teacher.training.epochs='2'", "a whole number without quotes, got '2'"),
        ("selection.confidence_threshold='0.5'", "a number without quotes, got '0.5'"),
        ("prediction.horizontal_flip=1", "true or false, got 1"),
        ("prediction.horizontal_flip='true'", "true or false without quotes, got 'true'"),
        ("run_name=", "'run_name': expected text, got nothing"),
        (
            "faces.unlabeled.hide_labels=3",
            "'faces.unlabeled.hide_labels': expected true or false or keys with values, e.g. {key: value}, got 3",
        ),
        ("faces.unlabeled.hide_labels={utkface: age}", "'faces.unlabeled.hide_labels.utkface': expected a list"),
        ("teacher={model: 1, model: 2}", "'model': given twice, in line 1"),
    ],
)
def test_numbers_are_numbers_and_finite(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"1 fault|1 of 1 overrides") as error:
        load(tmp_path, override)
    assert message in str(error.value)


def test_a_whole_number_is_a_number(tmp_path: Path) -> None:
    assert load(tmp_path, "teacher.training.optimizer.learning_rate=1").teacher.training.optimizer.learning_rate == 1.0
    assert (
        load(tmp_path, "teacher.training.optimizer.learning_rate=3e-4").teacher.training.optimizer.learning_rate == 3e-4
    )
