"""A stage's version moves when its code does: its code is digested and compared with the digest recorded for the version.

python -m tests.stages.test_versions     records the code as it is now
"""

import ast
import hashlib
import json
from pathlib import Path

import pytest

from ssl_pipeline.stages.versions import VERSIONS

RECORDED = Path(__file__).with_name("recorded_code.json")
ROOT = Path(__file__).parents[2] / "ssl_pipeline"
CODE: dict[str, tuple[str, ...]] = {
    "prepare": ("labels.py", "faces/**/*.py", "stages/prepare.py"),
    "train": (
        *("stages/train.py", "pseudo_labels/merging.py"),
        *(
            f"learning/{name}.py"
            for name in ("augmentation", "batches", "dataset", "fit", "fixmatch", "loop", "losses")
        ),
        *(f"learning/{name}.py" for name in ("mixing", "model", "optimizers", "parameter_groups", "random_draws")),
        *(f"learning/{name}.py" for name in ("schedules", "wide_resnet")),
    ),
    "features": ("stages/features.py", "learning/embedders.py", "faces/feature_table.py"),
    "face_features": ("stages/face_features.py", "learning/predict.py"),
    "head": ("stages/teachers.py", "learning/linear_head.py"),
    "vote": ("stages/teachers.py", "learning/vote.py"),
    "calibrate": ("stages/calibrate.py", "learning/calibrate.py", "evaluation/temperature*.py"),
    "cross_fit": ("stages/cross_fit.py", "learning/calibrate.py", "evaluation/temperature*.py"),
    "predict": (
        *("learning/engine.py", "learning/predict.py", "learning/shard_prediction.py"),
        *("stages/predict.py", "stages/round_faces.py"),
    ),
    "shift": ("evaluation/shift.py",),
    "draws": ("stages/draws.py", "evaluation/resemblance.py"),
    "select": ("stages/selection.py", "pseudo_labels/*.py"),
    "evaluate": ("stages/evaluate.py", "evaluation/*.py"),
    "cost": ("stages/cost.py",),
    "label_check": ("stages/label_check.py", "evaluation/label_errors.py", "learning/linear_head.py"),
}
"""The modules whose code decides a stage's results."""


def digest_code(*patterns: str) -> str:
    """Digest the code of modules without comments, docstrings and layout."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in ROOT.glob(pattern)}):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                node.body = [child for child in node.body if not _is_docstring(child)] or [ast.Pass()]
        digest.update(ast.unparse(tree).encode())
    return digest.hexdigest()[:16]


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def code_of_stages() -> dict[str, list[object]]:
    return {stage: [VERSIONS[stage], digest_code(*patterns)] for stage, patterns in CODE.items()}


@pytest.mark.parametrize("stage", CODE)
def test_a_stages_code_is_that_of_its_version(stage: str) -> None:
    recorded = json.loads(RECORDED.read_text())[stage]
    assert recorded == code_of_stages()[stage], (
        f"the code of the stage '{stage}' changed. If its results change, raise VERSIONS['{stage}'] in "
        "ssl_pipeline/stages/versions.py, so that finished runs work again; then record the code: "
        "python -m tests.stages.test_versions"
    )


def test_every_stage_has_a_version_and_its_code() -> None:
    assert set(CODE) == set(VERSIONS)
    assert all(list(ROOT.glob(pattern)) for patterns in CODE.values() for pattern in patterns)


def test_comments_and_docstrings_do_not_count_and_code_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.stages.test_versions.ROOT", tmp_path)
    digests = []
    for text in ('"""A."""\nx = 1\n', '"""B."""\nx  =  1  # one\n', "x = 2\n"):
        (tmp_path / "a.py").write_text(text)
        digests.append(digest_code("*.py"))
    assert digests[0] == digests[1] != digests[2]


if __name__ == "__main__":
    RECORDED.write_text(json.dumps(code_of_stages(), indent=2) + "\n")
