"""Masked sets: contents, complete counts, and the same bytes however they are drawn."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError

from ssl_pipeline.config.loading import load_masking
from ssl_pipeline.errors import ConfigError, FaceTableError
from ssl_pipeline.synthetic.masks import drawing, masked_set
from ssl_pipeline.synthetic.masks.masked_set import build_masked_faces
from tests.faces.sources_support import read, rows_of
from tests.synthetic.masks.support import SIZE, config_of, put_sources

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    root = tmp_path_factory.mktemp("bare")
    put_sources(root)
    return root


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def table_of(folder):
    return pd.read_csv(folder / "faces.csv", dtype=str, keep_default_na=False)


def test_each_person_gets_the_configured_pictures_and_the_csv_source_reads_them_back(bare, tmp_path) -> None:
    record = build_masked_faces(config_of(bare, out=tmp_path / "out"))
    assert record["drawn"] == {"wear": 6, "incorrect": 3, "normal": 3}
    assert record["pictures"] == 12 == len(list(tmp_path.rglob("*.jpg")))
    source = read(tmp_path, type="csv", name="masked", path="out", table="faces.csv")
    assert len(source.faces) == 12
    by_person = source.faces.groupby("person_id")["mask"].agg(lambda values: sorted(values))
    assert by_person.tolist() == [["incorrect", "normal", "wear", "wear"]] * 3
    assert [person.split(":")[-1] for person in by_person.index] == ["p0", "p1", "p2"]
    assert set(source.faces["gender"]) == {"male", "female"}
    host_numbers = table_of(tmp_path / "out")["host"].str.extract(r"bare:(\d)")[0].astype(int)
    assert (source.faces.sort_values("image_id")["age_years"].tolist()) == (
        (host_numbers + 20).set_axis(table_of(tmp_path / "out")["image_path"]).sort_index().tolist()
    )
    assert set(host_numbers) == set(range(6))  # the faces of a person take turns


def test_every_face_found_is_counted(bare, tmp_path) -> None:
    record = build_masked_faces(config_of(bare, out=tmp_path / "out"))
    parts = ("passed_over", "filtered", "beyond_limit", "rejected", "not_needed", "used")
    assert record["found"] == 9 == sum(record[part] for part in parts)
    assert record["used"] == 6
    assert rows_of(pd.read_csv(tmp_path / "out" / "rejected.csv"), "image_id", "reason") == [
        ("bare:broken.png", "not an image (JPEG, PNG, WebP, AVIF, HEIC, GIF, TIFF, BMP, JPEG 2000 or PPM)"),
        ("bare:masked.png", "wears a mask already"),
        ("bare:unknown.png", "not in the landmark file"),
    ]
    assert sum(record["reasons"].values()) == record["rejected"] == 3
    assert sum(record["drawn"].values()) == record["pictures"]
    assert (
        sum(record["kinds"].values())
        == sum(record["ways"].values())
        == record["drawn"]["wear"] + record["drawn"]["incorrect"]
    )


def test_faces_beyond_the_pictures_of_a_person_are_counted_as_not_needed(bare, tmp_path) -> None:
    pictures = {"wear": 1, "incorrect": 0, "normal": 0}
    record = build_masked_faces(config_of(bare, out=tmp_path / "out", per_person=pictures))
    assert (record["used"], record["not_needed"], record["pictures"]) == (3, 3, 3)


def test_with_per_face_every_face_gets_its_pictures(bare, tmp_path) -> None:
    pictures = {"wear": 1, "incorrect": 0, "normal": 1}
    record = build_masked_faces(config_of(bare, out=tmp_path / "out", per_person=None, per_face=pictures))
    assert (record["used"], record["pictures"]) == (6, 12)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_bytes(bare, tmp_path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        build_masked_faces(config_of(bare, out=tmp_path / name, seed=seed))
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert all(a[name] != c[name] for name in a if "mask1" in name)


def test_several_processes_give_the_same_bytes_as_one(bare, tmp_path, monkeypatch) -> None:
    build_masked_faces(config_of(bare, out=tmp_path / "one"))
    monkeypatch.setattr(drawing, "MAX_GROUPS_IN_ONE_PROCESS", 1)
    build_masked_faces(config_of(bare, out=tmp_path / "two", processes=2))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_only_missing_or_damaged_pictures_are_drawn_again(bare, tmp_path, monkeypatch) -> None:
    config = config_of(bare, out=tmp_path / "out")
    assert build_masked_faces(config)["kept"] == 0
    before = contents(config.folder)
    first, second, *others = sorted(config.folder.rglob("*.jpg"))
    times = {path: path.stat().st_mtime_ns for path in others}
    first.unlink()
    second.write_bytes(b"half a pict")
    (config.folder / "masked_set.json").unlink()
    assert build_masked_faces(config)["kept"] == 10
    assert contents(config.folder) == before
    assert {path: path.stat().st_mtime_ns for path in others} == times


def test_a_complete_set_is_not_read_again_but_one_without_a_picture_is(bare, tmp_path, monkeypatch) -> None:
    config = config_of(bare, out=tmp_path / "out")
    record = build_masked_faces(config)
    before = contents(config.folder)
    with monkeypatch.context() as patch:
        patch.setattr(masked_set, "read_source", None)  # would fail if it were called
        assert build_masked_faces(config) == record | {"kept": 12}
    next(config.folder.rglob("*.jpg")).unlink()
    assert build_masked_faces(config)["kept"] == 11
    assert contents(config.folder) == before


def test_pictures_of_a_changed_host_face_are_drawn_again(tmp_path) -> None:
    put_sources(tmp_path, people=2, images=1)
    config = config_of(tmp_path)
    build_masked_faces(config)
    with Image.open(tmp_path / "bare" / "0.png") as picture:
        darker = picture.point(lambda value: value // 2)
    darker.save(tmp_path / "bare" / "0.png")
    assert build_masked_faces(config)["kept"] == 4


def test_a_folder_with_other_settings_or_other_files_is_refused(bare, tmp_path) -> None:
    build_masked_faces(config_of(bare, out=tmp_path / "out"))
    before = contents(tmp_path / "out")
    with pytest.raises(FaceTableError, match="other settings"):
        build_masked_faces(config_of(bare, out=tmp_path / "out", jpeg_quality=80))
    assert contents(tmp_path / "out") == before
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    with pytest.raises(FaceTableError, match="something else"):
        build_masked_faces(config_of(bare, out=tmp_path / "letters"))


def test_a_set_inside_the_folder_of_a_source_is_refused(bare) -> None:
    with pytest.raises(FaceTableError, match="lies in the folder of source 'bare'"):
        build_masked_faces(config_of(bare, out=bare / "bare" / "out"))
    assert not (bare / "bare" / "out").exists()


def test_a_set_without_any_landmarks_is_refused_with_the_reasons(bare, tmp_path) -> None:
    (tmp_path / "other.csv").write_text("somebody.png,10,10,40,10,25,25,12,40,38,40\n")
    landmarks = {"type": "file", "path": tmp_path / "other.csv"}
    with pytest.raises(FaceTableError, match="none of the 9 faces found can be masked: 7 × not in the landmark file"):
        build_masked_faces(config_of(bare, out=tmp_path / "out", landmarks=landmarks))
    assert not (tmp_path / "out" / "masked_set.json").exists()


@pytest.mark.parametrize(("size", "reason"), [(64, "the nose lies outside"), (None, "the mask lies outside")])
def test_a_face_whose_mask_would_not_be_visible_is_rejected_and_never_labeled_as_masked(tmp_path, size, reason) -> None:
    put_sources(tmp_path, people=1, images=2)
    path = tmp_path / "bare" / "0.png"
    wide = Image.new("RGB", (3 * SIZE, SIZE), "gray")  # its central square has lost the face at the left
    if size is None:
        wide = Image.new("RGB", (SIZE, SIZE * 5 // 8), "gray")  # below the nose there is no room for a mask
    with Image.open(path) as face:
        wide.paste(face)
    wide.save(path)
    record = build_masked_faces(config_of(tmp_path, size=size))
    assert set(table_of(tmp_path / "out")["host"]) == {"bare:1.png"}
    assert record["pictures"] == 4 == len(list((tmp_path / "out").rglob("*.jpg")))
    reasons = dict(rows_of(pd.read_csv(tmp_path / "out" / "rejected.csv"), "image_id", "reason"))
    assert reasons["bare:0.png"].startswith(reason)
    parts = ("passed_over", "filtered", "beyond_limit", "rejected", "not_needed", "used")
    assert record["found"] == sum(record[part] for part in parts)


def test_bare_pictures_are_unchanged_and_size_and_quality_are_as_set(bare, tmp_path) -> None:
    build_masked_faces(config_of(bare, out=tmp_path / "out", size=96, jpeg_quality=100))
    table = table_of(tmp_path / "out")
    for row in table.itertuples():
        with (
            Image.open(tmp_path / "out" / row.image_path) as picture,
            Image.open(bare / row.host.replace(":", "/")) as host,
        ):
            assert picture.size == (96, 96)
            assert picture.format == "JPEG"
            resized = host.convert("RGB").resize((96, 96), Image.Resampling.BICUBIC)
            change = np.abs(np.asarray(picture, dtype=int) - np.asarray(resized, dtype=int)).mean()
            assert (change < 3) == (row.mask == "normal")
    build_masked_faces(config_of(bare, out=tmp_path / "small", size=96, jpeg_quality=40))
    sizes = [sum(path.stat().st_size for path in (tmp_path / name).rglob("*.jpg")) for name in ("small", "out")]
    assert sizes[0] < sizes[1] / 2


def test_a_script_without_a_main_guard_may_build_a_small_set(bare, tmp_path) -> None:
    code = (
        "from tests.synthetic.masks.support import *\nfrom pathlib import Path\n"
        "from ssl_pipeline.synthetic.masks.masked_set import build_masked_faces\n"
        f"print(build_masked_faces(config_of(Path({str(bare)!r}), out=Path({str(tmp_path / 'out')!r}), processes=2))['used'])"
    )
    (tmp_path / "script.py").write_text(code)
    command = [sys.executable, str(tmp_path / "script.py")]
    result = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}, check=False)
    assert result.stdout.strip() == "6", result.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"per_face": {}}, "give exactly one of them"),
        ({"per_person": None}, "give exactly one of them"),
        ({"per_person": {"wear": 0, "incorrect": 0, "normal": 0}}, "nothing would be drawn"),
        ({"kinds": {"surgical": 0, "three_panel": 0, "cloth": 0}}, "all shares are 0"),
        ({"colour": {}}, "Extra inputs"),
        ({"labels": {"attributes": [{"name": "mask", "values": ["on", "off"]}]}}, "needs the values"),
    ],
)
def test_contradictions_are_refused_before_any_work(tmp_path, change, message) -> None:
    with pytest.raises(ValidationError, match=message):
        config_of(tmp_path, **change)


def test_a_config_file_is_read_with_overrides_and_its_faults_are_named(tmp_path) -> None:
    text = "masking:\n- sources: [{type: utkface, path: utk}]\n  out: made\n  landmarks: {type: canonical}\n  per_person: {wear: 3}\n"
    (tmp_path / "a.yaml").write_text(text)
    (config,) = load_masking(tmp_path / "a.yaml", overrides=["masking.0.seed=7"]).masking
    assert (config.seed, config.pictures.wear, config.pictures.normal) == (7, 3, 1)
    (tmp_path / "b.yaml").write_text(text + "  sead: 1\n")
    with pytest.raises(ConfigError, match=r"unknown key 'masking.0.sead'; did you mean 'seed'\?"):
        load_masking(tmp_path / "b.yaml")
