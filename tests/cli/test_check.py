"""`ssl-pipeline check`: all that can be refused before work, at once."""

import subprocess
import sys
from pathlib import Path

import pytest

from ssl_pipeline.cli import main as cli
from tests.bad_inputs import remove_the_labeled_folder, write_folders
from tests.cycle_config import write_tiny_config


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["ssl-pipeline", "check", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def test_a_config_that_works_gets_one_line_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_tiny_config(tmp_path)
    assert run(monkeypatch, str(path), "--set", "rounds=2") == 0
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert printed.startswith("OK: run 'tiny' in ")
    assert "teacher wrn10_1, 3 epochs; 2 rounds of fixed_threshold" in printed
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert run(monkeypatch, str(path), "--quiet") == 0
    assert capsys.readouterr().out == ""


def test_networks_devices_and_folders_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folders(tmp_path)
    remove_the_labeled_folder(tmp_path)
    faults = ["teacher.model.architecture=resnt18", "student.model.weights_file=absent.pth"]
    options = [part for fault in faults for part in ("--set", fault)]
    assert run(monkeypatch, str(tmp_path / "config.yaml"), "--models", *options) == 1
    message = capsys.readouterr().err
    assert "config.yaml: 3 faults" in message
    for part in ("architecture 'resnt18'", "no such file absent.pth", "raw/labeled: no such folder"):
        assert part in message


def test_settings_are_refused_before_the_networks_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, str(write_tiny_config(tmp_path)), "--set", "seed=x", "--set", "rounds=0") == 1
    assert "2 faults" in capsys.readouterr().err


def test_without_models_no_network_is_built_and_missing_files_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(write_tiny_config(tmp_path))
    code = f"import sys\nsys.argv = ['ssl-pipeline', 'check', {path!r}]\nfrom ssl_pipeline.cli.main import app\n"
    code += "app(standalone_mode=False)\nassert not {'torch', 'timm', 'sklearn'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert run(monkeypatch, path, "--set", "student.model.weights_file=absent.pth") == 1
    assert "'student.model.weights_file': no such file absent.pth" in capsys.readouterr().err


def test_a_pool_of_labeled_files_and_labels_that_nothing_gives_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folders(tmp_path)
    config = str(tmp_path / "config.yaml")
    assert run(monkeypatch, config) == 0
    assert run(monkeypatch, config, "--set", "faces.unlabeled.sources.0.path=labeled") == 1
    assert "files of the pool are labeled faces too" in capsys.readouterr().err
    same_but_few = ["faces.unlabeled.sources.0.path=labeled", "faces.labeled.limit=20"]
    assert run(monkeypatch, config, *[part for text in same_but_few for part in ("--set", text)]) == 0
    capsys.readouterr()
    assert run(monkeypatch, config, "--set", "faces.labeled.sources.0.levels=[]") == 1
    assert "no labeled face has a known 'gender'" in capsys.readouterr().err


def test_a_student_that_no_teacher_resembles_is_refused_and_a_misspelled_teacher_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that timm does not know is like no other; to say that instead would hide the misspelling."""
    path = str(write_tiny_config(tmp_path))

    def faults(teacher: str, *options: str) -> str:
        rest = "training: {epochs: 1}}, {type: features, file: absent.parquet}]"
        other = f"teacher=[{{model: {{architecture: {teacher}}}, {rest}"
        settings = ["student.init=teacher", "student.model.architecture=resnet18", other]
        assert run(monkeypatch, path, *options, *[part for text in settings for part in ("--set", text)]) == 1
        return capsys.readouterr().err

    closest = "closest: teacher.0.model.architecture is resnt18, the student's resnet18)"
    assert closest in faults("resnt18")
    built = faults("resnt18", "--models")
    assert "'teacher.0.model': architecture 'resnt18'" in built and "did you mean 'resnet18'" in built
    assert "student.init" not in built
    assert "teacher.0.model.architecture is resnet34, the student's resnet18" in faults("resnet34", "--models")
    assert "student.init" not in faults("resnet18", "--models")
    no_network = ["student.init=teacher", "teacher={type: features, file: absent.parquet}"]
    assert run(monkeypatch, path, *[part for text in no_network for part in ("--set", text)]) == 1
    assert "student.init: no teacher is a network; --set student.init=auto" in capsys.readouterr().err
