"""`ssl-pipeline faces inspect`: counts, contact sheet, refusals."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from ssl_pipeline.cli import main as cli
from ssl_pipeline.faces.inventory import group_reasons
from tests.bad_inputs import write_folders


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(sys, "argv", ["ssl-pipeline", "faces", "inspect", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_found_known_rejected_and_filtered_faces_are_counted_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folders(tmp_path)
    Image.new("RGB", (24, 24)).save(tmp_path / "raw/labeled/stray.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "raw/pool/small.png")
    (tmp_path / "raw/labeled/male/<45/0.png").write_text("not an image")  # detected only when it is decoded
    (tmp_path / "raw/labeled/notes.txt").write_text("no image")
    out = tmp_path / "sheets" / "faces.png"
    overrides = ["--set", "faces.unlabeled.sources.0.filter={min_side_pixels: 20}"]
    assert run(monkeypatch, "--config", tmp_path / "config.yaml", *overrides, "--out", out, "--per-source", 24) == 0
    output = capsys.readouterr().out
    assert "labeled (folder, labeled): 26 found = 23 usable + 2 rejected + 1 passed over" in output
    assert "pool (folder, unlabeled): 5 found = 4 usable + 1 filtered" in output
    assert "male 11, female 12" in output and "unknown 4" in output
    assert "too few folders: expected <gender>/<age>/ above the file" in output
    assert "not an image" in output and f"e.g. {tmp_path}/raw/labeled/male/<45/0.png" in output.replace("\n", "")
    assert "e.g. notes.txt" in output
    assert "all 28 faces were decoded" in output and "people unknown: no labeled source gives person_id" in output
    assert Image.open(out).format == "PNG"
    assert not (tmp_path / "runs").exists()  # nothing is prepared


def test_an_example_of_a_missing_file_is_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folders(tmp_path)
    (tmp_path / "raw/table.csv").write_text("image_path,gender\na.png,male\nb.png,female\n")
    source = "[{type: csv, name: table, path: ., table: table.csv}]"
    assert run(monkeypatch, "--config", tmp_path / "config.yaml", "--set", f"faces.labeled.sources={source}") == 1
    output = capsys.readouterr().out
    assert "no such file …" in output and "a.png" in output
    assert " in " not in output


def test_corrections_are_applied_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folders(tmp_path)
    rows = ["labeled:male/<45/0.png,gender,female", "labeled:male/<45/99.png,gender,female"]
    (tmp_path / "raw/fix.csv").write_text("\n".join(["image_id,attribute,value", *rows]))
    assert run(monkeypatch, "--config", tmp_path / "config.yaml", "--set", "faces.corrections=fix.csv") == 0
    output = capsys.readouterr().out
    assert "male 11, female 13" in output
    assert "corrections: rows 2, applied 1, unmatched 1, values_changed 1" in output


def test_a_sheet_with_another_suffix_than_png_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folders(tmp_path)
    assert run(monkeypatch, "--config", tmp_path / "config.yaml", "--out", "a.jpg") == 1
    assert "ConfigError: --out a.jpg: expected a name that ends with .png" in capsys.readouterr().err


def test_reasons_are_counted_by_type() -> None:
    reasons = [
        "malformed name: expected x, got 'a_b.jpg'",
        "malformed name: expected x, got 'it's.jpg'",
        "gt.csv row 3: no such file /data/a.jpg (paths are relative to /data)",
        "gt.csv row 12: no such file /data/b.jpg (paths are relative to /data)",
        "'../a.jpg' lies outside /data; images must lie inside the source's path",
    ]
    groups = group_reasons(reasons)
    assert [(group.number, group.position, group.detail) for group in groups] == [
        (2, 0, "'a_b.jpg'"),
        (2, 2, "/data/a.jpg"),
        (1, 4, None),
    ]
    assert groups[1].text == "no such file … (paths are relative to /data)"
    assert groups[2].text == reasons[4]


def leave_none_usable(directory: Path) -> None:
    for path in (directory / "raw/labeled").rglob("*.png"):
        path.write_text("no image")


def leave_one_of_a_class(directory: Path) -> None:
    for path in sorted((directory / "raw/labeled/female/<45").iterdir())[1:]:
        path.unlink()


def put_nothing_known(directory: Path) -> None:
    text = (directory / "config.yaml").read_text()
    (directory / "config.yaml").write_text(text.replace("levels:\n      - gender\n      - age", "levels: []"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (leave_none_usable, "none of the 24 faces in 'labeled' can be read: 24 × not an image"),
        (leave_one_of_a_class, "1 of 4 classes have no validation face"),
        (
            put_nothing_known,
            "no labeled face has a known 'gender' or 'age'; name what the folders give (levels: [gender])",
        ),
    ],
)
def test_inspect_fails_where_a_run_would_stop_and_shows_its_tables_all_the_same(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
    message: str,
) -> None:
    write_folders(tmp_path)
    spoil(tmp_path)
    assert run(monkeypatch, "--config", tmp_path / "config.yaml") == 1
    captured = capsys.readouterr()
    assert f"FaceTableError: {message}" in captured.err
    assert "labeled (folder, labeled)" in captured.out and "pool (folder, unlabeled)" in captured.out


def test_a_sample_is_decoded_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folders(tmp_path)
    assert run(monkeypatch, "--config", tmp_path / "config.yaml", "--decode", 9) == 0
    output = capsys.readouterr().out
    assert "a sample of 9 of the 28 faces was decoded (--decode 28 for all)" in output
    assert "24 found = 24 usable" in output
