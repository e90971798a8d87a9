"""`ssl-pipeline faces inspect`: counts, contact sheet, refusals."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from ssl_pipeline.cli import main as cli
from ssl_pipeline.faces.inspection import count_reasons
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
    out = tmp_path / "sheets" / "faces.png"
    overrides = ["--set", "faces.unlabeled.sources.0.filter={min_side_pixels: 20}"]
    assert run(monkeypatch, "--config", tmp_path / "config.yaml", *overrides, "--out", out, "--per-source", 24) == 0
    output = capsys.readouterr().out
    assert "labeled (folder, labeled): 25 found = 24 usable + 1 rejected" in output
    assert "pool (folder, unlabeled): 5 found = 4 usable + 1 filtered" in output
    assert "male 12, female 12" in output and "unknown 4" in output
    assert "too few folders: expected <gender>/<age>/ above the file" in output
    sheet = Image.open(out)
    assert sheet.format == "PNG"
    assert (211, 211, 211) in {
        color for _, color in sheet.convert("RGB").getcolors(10**6) or []
    }  # tile of the unreadable face
    assert not (tmp_path / "runs").exists()  # nothing is prepared


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
    assert list(count_reasons(reasons).values()) == [2, 2, 1]
