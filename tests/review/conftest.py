"""Small runs with hostile names, and clients of their review pages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from benchmarks.random_run import write_random_run
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.review.app import Review
from ssl_pipeline.review.serve import guarded_app, open_review
from ssl_pipeline.runs.directory import RunDir

TOKEN, PORT = "token-of-the-test", 8123
HOSTILE = (
    "<script>alert(1)</script>",
    "quote\"'.jpg",
    "two\nlines.jpg",
    "\u202egpj.exe",
    "[/markup].jpg",
    "../../etc/passwd",
)
LABELS = LabelSpace.of({"mask": ["<b>wear</b>", 'in"correct', "normal"], "gender": ["m", "f"]})


@pytest.fixture(scope="session")
def run_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ids = [*(f"pool:{name}" for name in HOSTILE), *(f"pool:{number:04d}.jpg" for number in range(500 - len(HOSTILE)))]
    root = tmp_path_factory.mktemp("template") / "tiny"
    write_random_run(root, num_pool=500, labels=LABELS, ids=ids)
    return root


@pytest.fixture
def run(run_template: Path, tmp_path: Path) -> RunDir:
    """The shared run with answers of its own: links to its folders."""
    root = tmp_path / "tiny"
    root.mkdir()
    for name in ("faces", "round-01", "run.json"):
        (root / name).symlink_to(run_template / name)
    return RunDir(root)


@pytest.fixture
def client_of() -> Callable[[Review], TestClient]:
    def build(review: Review, *, with_token: bool = True) -> TestClient:
        app = guarded_app(review, token=TOKEN, host="127.0.0.1", port=PORT)
        client = TestClient(app, base_url=f"http://127.0.0.1:{PORT}")
        if with_token:
            assert client.get(f"/?token={TOKEN}").status_code == 200
        return client

    return build


@pytest.fixture
def client(run: RunDir, client_of: Any) -> TestClient:
    return client_of(open_review(run))


def sent(row: int, number: int = 0, **changed: Any) -> dict[str, Any]:
    answer = {
        "id": f"answer-{row:04d}-{number:04d}",
        "row": row,
        "attribute": "mask",
        "decision": "label",
        "value": "normal",
    }
    return {**answer, "reviewer": "ann", "time": "2026-01-01T00:00:00.000Z", "queue": "all", **changed}
