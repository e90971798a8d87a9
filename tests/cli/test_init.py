"""`ssl-pipeline init`: from folders to a config that runs, and what can be expected of it."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ssl_pipeline.cli import main as cli
from ssl_pipeline.config.loading import load_config

PRESET = """
faces: {image_size: 32}
teacher: {model: {architecture: wrn10_1}, training: {steps: 4, batch_size: 8}}
student: {model: {architecture: wrn10_1}, training: {steps: 4, batch_size: 8}}
"""


def write_pictures(folder: Path, number: int, *, seed: int) -> None:
    """Write pictures that differ from each other, so that none is a near duplicate."""
    folder.mkdir(parents=True)
    for position, pixels in enumerate(np.random.default_rng(seed).integers(0, 256, (number, 32, 32, 3), np.uint8)):
        Image.fromarray(pixels).save(folder / f"{position}.png")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(PRESET)
    for seed, value in enumerate(("no hat", "hat")):
        write_pictures(tmp_path / "people" / value, 40, seed=seed)
    write_pictures(tmp_path / "crawled", 30, seed=9)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["ssl-pipeline", "init", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def test_a_folder_per_class_becomes_a_config_that_loads(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "people" / "hat" / "notes.txt").write_text("")
    assert run(monkeypatch, "people", "--unlabeled", "crawled", "--yes", "--preset", "tiny.yaml") == 0
    config = load_config(Path("people.yaml"))
    assert config.run_name == "people"
    assert config.labels.space.to_dict() == {"label": ["hat", "no hat"]}
    assert config.faces.root == folder
    printed = " ".join(capsys.readouterr().out.split())
    for part in (
        "label hat 40, no hat 40",
        "faces train 44, validation 16, test 20; pool 30; people unknown",
        "labeled: 1 × no image, e.g. hat/notes.txt",
        "with 20 test faces, differences below 18 points of accuracy may be chance",
        "2 of 2 values have too few validation faces to show a precision of 80%",
        "next ssl-pipeline run people.yaml",
    ):
        assert part in printed


def test_what_exists_is_not_overwritten(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.yaml").write_text("mine")
    assert run(monkeypatch, "people", "--unlabeled", "crawled", "--out", "mine.yaml") == 1
    assert "mine.yaml exists already; give another name with --out" in capsys.readouterr().err
    assert Path("mine.yaml").read_text() == "mine"


def test_the_pool_may_not_be_the_labeled_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "people", "--unlabeled", "people/") == 1
    assert "the labeled faces and the pool are the same" in capsys.readouterr().err


def test_answers_name_the_attribute_and_the_persons(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter(["Hats", "headwear"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("typer.prompt", lambda text, default: next(answers))
    assert run(monkeypatch, "people", "--unlabeled", "crawled", "--preset", "tiny.yaml") == 0
    assert load_config(Path("people.yaml")).labels.space.names == ["headwear"]
    assert "lower-case letters" in capsys.readouterr().out


def test_pictures_under_two_labels_are_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = (folder / "people" / "hat" / "0.png").read_bytes()
    (folder / "people" / "no hat" / "same.png").write_bytes(picture)
    assert run(monkeypatch, "people", "--unlabeled", "crawled", "--yes", "--preset", "tiny.yaml") == 0
    assert "the same picture with different labels" in " ".join(capsys.readouterr().out.split())


def test_nearly_the_same_picture_under_two_labels_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.array(Image.open(folder / "people" / "hat" / "0.png"))
    pixels[0, 0] = 255 - pixels[0, 0]
    Image.fromarray(pixels).save(folder / "people" / "no hat" / "almost.png")
    assert run(monkeypatch, "people", "--unlabeled", "crawled", "--yes", "--preset", "tiny.yaml") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        "1 × nearly the same picture under different labels, e.g. labeled:hat/0.png and labeled:no hat/almost.png"
        in printed
    )


def test_the_config_is_short_and_its_pool_knows_what_its_folders_say(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(folder / "public" / "hat", 20, seed=5)
    assert run(monkeypatch, "people", "--unlabeled", "public", "--yes", "--preset", "tiny.yaml") == 0
    text = Path("people.yaml").read_text()
    assert len(text.splitlines()) < 25
    assert yaml.safe_load(text)["faces"]["unlabeled"]["sources"][0]["levels"] == ["label"]


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        (["Man/1.png", "woman/1.png"], {"levels": ["gender"], "values": {"gender": {"Man": "남자", "woman": "여자"}}}),
        (["a/1.png", "b/1.png"], {}),
        (
            [f"{20 + number}_{number % 2}_2_2017010100000000{number}.jpg.chip.jpg" for number in range(4)],
            {"type": "utkface", "values": {"gender": {"male": "남자", "female": "여자"}}},
        ),
    ],
)
def test_what_the_pool_knows_is_translated(
    folder: Path, monkeypatch: pytest.MonkeyPatch, pool: list[str], expected: dict[str, object]
) -> None:
    """A pool whose words for a value are others than ours would otherwise be rejected, or its labels be lost."""
    for seed, value in enumerate(("남자", "여자")):
        write_pictures(folder / "사람" / value, 40, seed=seed)
    for name, pixels in zip(pool, np.random.default_rng(7).integers(0, 256, (9, 32, 32, 3), np.uint8), strict=False):
        (folder / "other" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / "other" / name, format="png")
    assert run(monkeypatch, "사람", "--unlabeled", "other", "--yes", "--preset", "tiny.yaml", "--out", "x.yaml") == 0
    section = yaml.safe_load(Path("x.yaml").read_text())["faces"]["unlabeled"]["sources"][0]
    assert section == {"type": "folder", "name": "pool", "path": "other", **expected}


def test_a_face_set_that_labels_something_else_is_a_pool_without_labels(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, value in enumerate(("young lady", "old man")):
        write_pictures(folder / "gender" / value, 40, seed=seed)
    (folder / "rows.csv").write_text(
        "file,gender\n"
        + "".join(f"gender/{value}/{n}.png,{value}\n" for value in ("young lady", "old man") for n in range(40))
    )
    for number in range(4):
        write_pictures(folder / "utk" / str(number), 1, seed=number)
        (folder / "utk" / str(number) / "0.png").rename(
            folder / "utk" / f"{20 + number}_{number % 2}_2_2017010100000000{number}.jpg.chip.jpg"
        )
    assert run(monkeypatch, "rows.csv", "--unlabeled", "utk", "--yes", "--preset", "tiny.yaml") == 0
    section = yaml.safe_load(Path("rows.yaml").read_text())["faces"]["unlabeled"]["sources"][0]
    assert section == {"type": "folder", "name": "pool", "path": "utk"}


def test_faces_that_cannot_be_used_leave_no_config(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for picture in (folder / "crawled").iterdir():
        picture.write_bytes(b"no image")
    for _ in range(2):
        assert run(monkeypatch, "people", "--unlabeled", "crawled", "--yes", "--preset", "tiny.yaml") == 1
        assert "FaceTableError" in capsys.readouterr().err
    assert not (folder / "people.yaml").exists()
