"""The README says what is there: every link, command and config it names; CONTRIBUTING draws every room."""

from pathlib import Path

import pytest

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.runs.directory import RunDir
from tests.cycle_config import draw_and_prepare, write_tiny_config
from tests.learning.prediction_support import save_random_model, write_images

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_readme_stays_short() -> None:
    assert len(README.encode()) <= 12_000


def test_contributing_draws_every_room() -> None:
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    for room in [path for path in (ROOT / "ssl_pipeline").iterdir() if (path / "__init__.py").is_file()]:
        assert f"`ssl_pipeline/{room.name}/`" in contributing, room.name


def test_only_three_files_of_words_stand_beside_the_rooms() -> None:
    modules = {path.name for path in (ROOT / "ssl_pipeline").glob("*.py")}
    assert modules == {"__init__.py", "labels.py", "errors.py", "points.py"}


def test_every_local_link_and_picture_exists() -> None:
    for piece in README.split("](")[1:]:
        target = piece.split(")")[0]
        if not target.startswith(("http", "#")):
            assert (ROOT / target).exists(), target


def test_the_makefile_has_the_commands_that_the_readme_names() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for name in ("setup", "demo", "test", "check", "bench"):
        assert f"\n{name}:" in makefile


def test_the_library_is_used_as_the_docs_show(tmp_path: Path) -> None:
    config = write_tiny_config(tmp_path)
    loaded = load_config(config, overrides=["teacher.training.epochs=1"])
    run = RunDir(tmp_path / "runs/tiny")
    draw_and_prepare(loaded, run)
    code = (ROOT / "docs/training.md").read_text().split("```python\n")[1].split("```")[0]
    for shown, real in (
        ("configs/demo.yaml", config),
        ("data/runs/demo/faces", run.faces),
        ("data/my-teacher", tmp_path / "t"),
    ):
        assert code.count(shown) == 1
        code = code.replace(shown, str(real))
    exec(code, {})
    assert (tmp_path / "t/trained.safetensors").is_file()


def test_the_predictor_is_used_as_the_docs_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save_random_model(tmp_path / "model/best.safetensors")
    write_images(tmp_path / "photos", ["1.png", "2.png"])
    code = (ROOT / "docs/training.md").read_text().split("```python\n")[2].split("```")[0]
    assert code.count("data/runs/demo") == 1
    exec(code.replace("data/runs/demo", str(model.parent)).replace("photos", str(tmp_path / "photos")), {})
    assert "Name: gender=male" in capsys.readouterr().out
