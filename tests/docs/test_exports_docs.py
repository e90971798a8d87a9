"""The notebook's example in docs/exports.md runs."""

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.pseudo_labels.test_manifest import build


def test_the_notebooks_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (Path(__file__).parents[2] / "docs/exports.md").read_text(encoding="utf-8").partition("## In a notebook")[2]
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    path = tmp_path / "data/runs/demo/round-01/pseudo_labels/manifest.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(build(), path)
    monkeypatch.chdir(tmp_path)
    # the example's attribute is the demo's; this manifest has genders
    exec(found[1].replace("mask", "gender").replace("wear", "female"), {})
    assert capsys.readouterr().out.splitlines() == [
        "0.9933333333333333 ['gender', 'age']",
        "{'candidates': 8, 'accepted': 4, 'rejected': 2, 'unreadable': 2}",
    ]
