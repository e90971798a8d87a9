"""The report of a run: its figures are the records', names stay text, its size is bounded, equal input gives equal bytes."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from ssl_pipeline.cli.main import app
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import ManifestError, RunError
from ssl_pipeline.pseudo_labels.manifest import read_manifest
from ssl_pipeline.reports.run_report import render_report
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import read_json
from ssl_pipeline.stages import finish as finish_stage
from ssl_pipeline.stages import report as stage
from ssl_pipeline.stages.report import report_of_cycle, report_run
from ssl_pipeline.stages.report_context import ReportOptions
from tests.report_run import HOSTILE, content_of, finish_tiny_run, hostile

Finished = tuple[RunConfig, RunDir, dict[str, Any]]


class Page(HTMLParser):
    """The elements, the text and the data of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._is_data, self.data = False, {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._is_data = tag == "script" and dict(attrs).get("type") == "application/json"

    def handle_data(self, data: str) -> None:
        if self._is_data:
            self.data, self._is_data = json.loads(data), False
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return finish_tiny_run(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(finished: Finished) -> Page:
    return Page(Path(finished[2]["report"]).read_text())


def test_the_cycle_writes_the_report_and_names_it(finished: Finished) -> None:
    _, run, summary = finished
    assert summary["report"] == str(run.root / "report.html") == read_json(run.summary)["report"]


def test_its_parts_come_in_order(page: Page) -> None:
    ids = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert ids == ["result", "pool", "labels", "confidence", "faces", "map", "know", "repeat"]


def test_the_figures_are_the_records(finished: Finished, page: Page) -> None:
    _, run, summary = finished
    for model in ("teacher", "control", "student"):
        scores = summary[model]["test"]
        assert f"{model.capitalize()} {100 * scores['macro_f1']:.1f} %" in page.text
        assert f"accuracy {100 * scores['accuracy']:.1f} %" in page.text
    for name in ("test_difference", "control_difference"):
        assert f"{100 * summary[name]['overall']['difference']:+.1f}".replace("-", "−") in page.text
    counts = summary["counts"]
    assert f"{counts['accepted']:,} of {counts['candidates']:,} candidates accepted" in page.text
    selection = read_json(run.pseudo_labels(1) / "selection.json")
    for name, attribute in selection["per_attribute"].items():
        assert sum(attribute[status] for status in ("known", "accepted", "rejected")) == 100
        assert f"accepted {attribute['accepted']:,} {attribute['accepted']:.1f} %" in page.text, name
    for row in selection["selection"]["thresholds"]:
        if row["num_accepted"] and row["num_held_out"]:
            assert f"{row['num_correct']} of {row['num_held_out']} held-out faces were right" in page.text
    assert selection["selection"]["shift"]["words"][1:] in page.text
    assert summary["versions"]["torch"] in page.text


def test_a_faces_record_is_its_row_of_the_manifest(finished: Finished, page: Page) -> None:
    _, run, _ = finished
    manifest, again = (read_manifest(run.pseudo_labels(index) / "manifest.parquet") for index in (1, 2))
    truth = pd.read_parquet(run.faces / "unlabeled_truth.parquet").set_index("image_id")
    rows = manifest.faces.set_index("image_id")
    second = again.faces.set_index("image_id")
    pool = [face for face in page.data["faces"] if face["kind"] == "pool"]
    assert {face["id"] for face in pool} == set(rows.index)  # a small pool is shown whole
    values = {attribute["name"]: attribute["values"] for attribute in page.data["attributes"]}
    for face in pool:
        row = rows.loc[face["id"]]
        assert (face["path"], face["status"], face["reason"]) == (row["image_path"], row["status"], row["reason"])
        for label, (name, names) in zip(face["labels"], values.items(), strict=True):
            assert names[label["value"]] == row[name] and label["status"] == row[f"{name}_status"]
            assert label["confidence"] == pytest.approx(row[f"{name}_confidence"], abs=1e-4)
            assert names[label["truth"]] == truth.loc[face["id"], name]
            assert label["probabilities"][label["value"]] == pytest.approx(label["confidence"], abs=2e-3)
        assert [entry["round"] for entry in face["rounds"]] == [1, 2]
        guessed = [names[entry[0]] for entry, names in zip(face["rounds"][1]["labels"], values.values(), strict=True)]
        assert guessed == [second.loc[face["id"], name] for name in values]


def test_galleries_hold_what_they_say(page: Page) -> None:
    faces, galleries = page.data["faces"], {own["key"]: own["faces"] for own in page.data["galleries"]}
    assert set(galleries) == {"surest", "least-sure", "just-rejected", "odd", "changed", "wrong"}
    lowest = lambda face: min(own["confidence"] for own in face["labels"] if own["status"] == "accepted")  # noqa: E731
    surest, least = ([lowest(faces[n]) for n in galleries[key]] for key in ("surest", "least-sure"))
    assert surest[0] == max(map(lowest, (face for face in faces if face["status"] == "accepted")))
    assert least[0] == min(map(lowest, (face for face in faces if face["status"] == "accepted")))
    for index in galleries["just-rejected"]:
        assert any(own["status"] == "rejected" for own in faces[index]["labels"])
    for index in galleries["wrong"]:
        assert any(own["status"] == "accepted" and own["truth"] != own["value"] for own in faces[index]["labels"])
    for index in galleries["changed"]:
        first, second = ([own[0] for own in entry["labels"]] for entry in faces[index]["rounds"])
        assert first != second


def test_the_map_holds_every_grouping_and_the_nearest_are_labeled(page: Page) -> None:
    drawn = page.data["map"]
    assert set(drawn["groups"]) == {
        *(f"{name}: {what}" for name in ("gender", "age") for what in ("guess", "truth", "decision")),
        "origin",
    }
    assert len(drawn["x"]) == len(drawn["y"]) == 100 + drawn["num_labeled"]
    assert all(len(group["codes"]) == len(drawn["x"]) for group in drawn["groups"].values())
    near = [index for face in page.data["faces"] for index, _ in face.get("near", [])]
    assert near and {page.data["faces"][index]["status"] for index in near} <= {"train", "validation"}


def test_the_page_loads_nothing_and_allows_only_its_own_code(page: Page, finished: Finished) -> None:
    html = Path(finished[2]["report"]).read_text()
    policy = next(own["content"] for tag, own in page.tags if own.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy and "http" not in policy
    assert policy.count("'sha256-") == 2 and "img-src data:;" in policy
    assert not [own for _, own in page.tags if "src" in own or (own.get("href") or "#")[0] != "#"]
    assert not re.search(r"\son\w+=|\sstyle=", html.partition("<body>")[2].partition("<script")[0])


def test_hostile_names_are_text(finished: Finished) -> None:
    config, run, summary = finished
    facts, faces = content_of(config, run, summary)
    options = facts.pop("options")
    facts = {**hostile(facts), "options": options}
    html = render_report(facts, hostile(faces))
    read = Page(html)
    assert [own.get("type") for tag, own in read.tags if tag == "script"] == ["application/json", None]
    assert not [own for tag, own in read.tags if tag == "img"]
    assert {value for item in read.data["attributes"] for value in item["values"]} >= {
        HOSTILE["male"],
        HOSTILE["female"],
    }
    assert HOSTILE["female"] in read.text and "<script>alert('male')" not in html
    assert any(HOSTILE["elsewhere"] in face["id"] for face in read.data["faces"])


def test_equal_input_gives_equal_bytes(finished: Finished, tmp_path: Path) -> None:
    _, run, _ = finished
    pages = [report_run(run.root, tmp_path / f"{number}.html").read_bytes() for number in range(2)]
    assert pages[0] == pages[1]


def test_pictures_are_bounded_left_out_and_blurred(finished: Finished, tmp_path: Path) -> None:
    config, run, summary = finished
    _, few = content_of(config, run, summary, max_faces=20)
    assert len(few["faces"]) == 20
    _, without = content_of(config, run, summary, faces=False)
    assert {face["picture"] for face in without["faces"]} == {None}
    _, blurred = content_of(config, run, summary, blur=True)
    _, sharp = content_of(config, run, summary)
    assert [face["id"] for face in blurred["faces"]] == [face["id"] for face in sharp["faces"]]
    assert all(one["picture"] != two["picture"] for one, two in zip(blurred["faces"], sharp["faces"], strict=True))
    assert not any(face.get("heat") for face in blurred["faces"])


def test_an_unfinished_run_shows_what_is_known(finished: Finished, tmp_path: Path) -> None:
    _, run, _ = finished
    read = Page(report_run(run.pseudo_labels(2) / "manifest.parquet", tmp_path / "two.html").read_text())
    assert "This run has not been compared yet" in read.text and "pseudo-labels of round 2" in read.text
    assert read.data["faces"] and read.data["map"] is not None


def test_a_run_without_a_student_has_a_report(finished: Finished) -> None:
    config, run, summary = finished
    alone = dict.fromkeys(("student", "control", "test_difference", "control_difference", "costs", "student_labels"))
    facts, faces = content_of(config, run, {**summary, **alone, "promoted": "teacher", "pool_teaches": False})
    read = Page(render_report(facts, faces))
    assert "The teacher stays: there is no student" in read.text and "no student was trained" in read.text
    assert set(facts["scores"]) == {"teacher"} and "There is no student to compare" in read.text


def test_suspicious_human_labels_are_a_gallery_where_someone_looked(finished: Finished) -> None:
    config, run, summary = finished
    labeled = pd.read_parquet(run.faces / "labeled.parquet")
    suspect = labeled[labeled["split"] == "train"].iloc[3]
    row = {
        "image_id": suspect["image_id"],
        "attribute": "gender",
        "label": "male",
        "likely_label": "female",
        "score": 0.01,
    }
    pd.DataFrame([row]).to_parquet(run.root / "label_errors.parquet")
    try:
        _, faces = content_of(config, run, summary)
    finally:
        (run.root / "label_errors.parquet").unlink()
    (index,) = next(own["faces"] for own in faces["galleries"] if own["key"] == "label-errors")
    assert faces["faces"][index]["id"] == suspect["image_id"]
    assert faces["faces"][index]["reason"] == "gender: labeled male, likely female (score 0.010)"


def test_a_report_that_fails_is_a_warning(
    finished: Finished, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config, run, summary = finished

    def fail(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(stage, "render_report", fail)
    assert report_of_cycle(config, run, summary) is None
    assert f"to try again: ssl-pipeline report {run.root}" in caplog.text
    assert finish_stage.report_of_cycle is report_of_cycle


def test_nothing_to_report_on_is_said(finished: Finished, tmp_path: Path) -> None:
    _, run, _ = finished
    with pytest.raises(RunError, match="no run; give the folder of a run"):
        report_run(tmp_path)
    manifest = tmp_path / "manifest.parquet"
    manifest.write_bytes((run.pseudo_labels(1) / "manifest.parquet").read_bytes())
    with pytest.raises(ManifestError, match="a report needs the manifest's run around it"):
        report_run(manifest)


def test_the_command_writes_it(finished: Finished, tmp_path: Path) -> None:
    _, run, _ = finished
    out = tmp_path / "deep" / "r.html"
    result = CliRunner().invoke(app, ["report", str(run.root), "--out", str(out), "--no-faces", "--max-faces", "10"])
    assert result.exit_code == 0, result.output
    assert str(out) in result.output.replace("\n", "") and len(Page(out.read_text()).data["faces"]) == 10
    assert ReportOptions().max_faces == 1500


def test_what_the_network_looked_at_is_scaled_to_its_maximum(finished: Finished, page: Page) -> None:
    heats = [heat for face in page.data["faces"] for heat in face.get("heat") or []]
    assert heats and all(re.fullmatch(r"[0-9a-f]+(/[0-9a-f]+)*", heat) for heat in heats)
    assert np.mean(["f" in heat for heat in heats]) > 0.5
