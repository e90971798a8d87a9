"""Shipped configs are found by name from any folder."""

from pathlib import Path

import pytest
import yaml

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.shipped import shipped_configs
from ssl_pipeline.errors import ConfigError

SHIPPED = Path(__file__).parents[2] / "configs"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["demo", "demo.yaml", "configs/demo.yaml", "configs/demo"])
def test_a_shipped_config_is_found_by_its_name_and_by_its_path_in_a_checkout(name: str) -> None:
    assert load_config(Path(name)) == load_config(SHIPPED / "demo.yaml")


def test_every_shipped_config_has_a_name() -> None:
    files = sorted(SHIPPED.rglob("*.yaml"))
    assert sorted(shipped_configs()) == sorted(file.relative_to(SHIPPED).with_suffix("").as_posix() for file in files)


def test_a_shipped_recipe_extends_a_shipped_config() -> None:
    assert load_config(Path("recipes/vit_base")) == load_config(SHIPPED / "recipes/vit_base.yaml")


def test_a_config_may_extend_a_shipped_one() -> None:
    Path("mine.yaml").write_text(yaml.safe_dump({"extends": "demo", "run_name": "mine"}))
    assert load_config(Path("mine.yaml")) == load_config(Path("demo"), run_name="mine")


def test_a_file_comes_before_the_shipped_config_of_the_same_path() -> None:
    Path("configs").mkdir()
    Path("configs/demo.yaml").write_text(yaml.safe_dump({"extends": "demo", "run_name": "mine"}))
    assert load_config(Path("configs/demo.yaml")).run_name == "mine"


def test_a_config_that_is_not_there_is_refused_with_the_files_and_the_shipped_names() -> None:
    Path("mine.yaml").write_text("{}")
    for missing in ("dmo.yaml", "demo.yml", str(Path("demo.yaml").absolute())):
        with pytest.raises(ConfigError) as error:
            load_config(Path(missing))
        assert str(error.value).startswith(f"{missing}: no such config file; files there: ")
        assert "mine.yaml; shipped: demo, maskbase, " in str(error.value)
        assert "recipes/vit_base" in str(error.value)


def test_of_many_configs_in_the_folder_eight_are_named() -> None:
    for index in range(10):
        Path(f"mine-{index}.yaml").write_text("{}")
    with pytest.raises(ConfigError, match=r"mine-7\.yaml and 2 more; shipped: "):
        load_config(Path("other.yaml"))
