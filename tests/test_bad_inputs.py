"""What a user may get wrong, and the exact message for each; every one ends with exit code 1 and no traceback."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ssl_pipeline import cli, stages
from ssl_pipeline.config_loading import load_config
from ssl_pipeline.errors import PipelineError
from ssl_pipeline.session import open_run
from tests.cycle_config import TINY

LABELS = TINY["labels"] | {
    "attributes": [
        {"name": "gender", "values": ["male", "female"]},
        {"name": "age", "values": ["<45", ">=45"]},
    ]
}


def picture(path: Path, *, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(shade).integers(0, 255, size=(24, 24, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def folder_config(directory: Path, *, num_rare: int = 6) -> Path:
    """A config over folders `labeled/<gender>/<age>/` and `pool/`; female/>=45 has `num_rare` labeled faces."""
    shade = 0
    for gender in ("male", "female"):
        for age in ("<45", ">=45"):
            for number in range(num_rare if (gender, age) == ("female", ">=45") else 6):
                shade += 1
                picture(directory / "raw/labeled" / gender / age / f"{number}.png", shade=shade)
    for number in range(4):
        picture(directory / "raw/pool" / f"{number}.png", shade=100 + number)
    content = TINY | {
        "runs_root": str(directory / "runs"),
        "labels": LABELS,
        "faces": {
            "root": str(directory / "raw"),
            "image_size": 24,
            "labeled": {
                "sources": [{"type": "folder", "name": "labeled", "path": "labeled", "levels": ["gender", "age"]}],
                "test_fraction": 0.2,
                "validation_fraction": 0.3,
            },
            "unlabeled": {"sources": [{"type": "folder", "name": "pool", "path": "pool"}]},
        },
    }
    (directory / "config.yaml").write_text(yaml.safe_dump(content))
    return directory / "config.yaml"


def spoil_nothing(directory: Path) -> None:
    pass


def empty_the_pool(directory: Path) -> None:
    for path in (directory / "raw/pool").iterdir():
        path.unlink()


def break_every_picture_of_the_pool(directory: Path) -> None:
    for path in (directory / "raw/pool").iterdir():
        path.write_text("no picture")


def remove_the_labeled_folder(directory: Path) -> None:
    (directory / "raw/labeled").rename(directory / "raw/elsewhere")


@pytest.mark.parametrize(
    ("spoil", "overrides", "num_rare", "message"),
    [
        (
            remove_the_labeled_folder,
            [],
            6,
            "{dir}/raw/labeled: no such folder; source 'labeled' looks for its faces there (paths are relative to "
            "faces.root, {dir}/raw); put the faces there, or correct the source's path or faces.root",
        ),
        (
            empty_the_pool,
            [],
            6,
            "{dir}/raw/pool: nothing found for source 'pool', expected image files (paths are relative to faces.root, "
            "{dir}/raw; hidden files are ignored); put the faces there, or correct the source's path or faces.root",
        ),
        (break_every_picture_of_the_pool, [], 6, "none of the 4 faces in 'pool' can be read: 4 × "),
        (spoil_nothing, [], 1, "female/>=45"),
        (
            spoil_nothing,
            ["faces.unlabeled.sources.0.filter={origin: [asian]}"],
            6,
            "source 'pool' does not know 'origin', so filter.origin would leave out every face",
        ),
        (spoil_nothing, ["teacher.model.architecture=resnt18"], 6, "'teacher.model': architecture 'resnt18'"),
        (
            spoil_nothing,
            ["teacher.training.batch_size=x"],
            6,
            "'teacher.training.batch_size': expected a valid integer",
        ),
        (spoil_nothing, ["faces.labeled.test_sources=[{type: folder, path: x}]"], 6, "give exactly one of them"),
    ],
)
def test_faces_that_cannot_be_used_are_told_in_words(
    tmp_path: Path, spoil: Callable[[Path], None], overrides: list[str], num_rare: int, message: str
) -> None:
    path = folder_config(tmp_path, num_rare=num_rare)
    spoil(tmp_path)
    expected = re.escape(message.format(dir=tmp_path) if "{dir}" in message else message)

    def prepare() -> None:
        config = load_config(path, overrides=overrides)
        with open_run(config) as run:
            stages.prepare(config, run)

    with pytest.raises(PipelineError, match=expected):
        prepare()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["manifest", "summary", "absent.parquet"], "ManifestError: absent.parquet: no such file"),
        (
            ["manifest", "summary", "{dir}/text.parquet"],
            "ManifestError: {dir}/text.parquet: not a readable Parquet file",
        ),
        (
            ["predict", "--checkpoint", "absent.safetensors", "--images", ".", "--out", "out.csv"],
            "CheckpointError: absent.safetensors: no such checkpoint; a trained model is best.safetensors in its run's "
            "directory",
        ),
        (
            ["predict", "--checkpoint", "{dir}/text.parquet", "--images", ".", "--out", "out.csv"],
            "CheckpointError: {dir}/text.parquet: not a checkpoint of ssl-pipeline; expected the best.safetensors of a "
            "teacher or student",
        ),
        (
            ["predict", "--checkpoint", "x", "--images", ".", "--out", "out.xlsx"],
            "ConfigError: --out out.xlsx: expected a name that ends with .csv or .parquet",
        ),
        (
            ["evaluate", "--checkpoint", "absent.safetensors", "--config", "absent.yaml"],
            "ConfigError: absent.yaml: no such config file",
        ),
    ],
)
def test_the_command_says_one_message_and_exits_with_one(
    tmp_path: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "text.parquet").write_text("no table")
    filled = [argument.replace("{dir}", str(tmp_path)) for argument in arguments]
    monkeypatch.setattr("sys.argv", ["ssl-pipeline", *filled])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    assert capsys.readouterr().err.startswith(message.replace("{dir}", str(tmp_path)))
