"""Report stage: one self-contained HTML file about a run, or about a manifest of a run that has not ended."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ssl_pipeline.config.loading import dump_config, load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import ManifestError, RunError
from ssl_pipeline.evaluation.paired_bootstrap import bootstrap_interval
from ssl_pipeline.faces.independence import independent_units
from ssl_pipeline.pseudo_labels.pool_columns import PoolColumns
from ssl_pipeline.reports.run_report import render_report
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import digest_of, read_json, write_text
from ssl_pipeline.runs.profile import shares_in_words
from ssl_pipeline.runs.records import RECORD, StageRecord
from ssl_pipeline.stages.evaluate import PREDICTIONS
from ssl_pipeline.stages.gate import compare_on_split
from ssl_pipeline.stages.report_context import ReportContext, ReportOptions
from ssl_pipeline.stages.report_faces import report_faces

logger = logging.getLogger(__name__)

REPORT = "report.html"
_NUM_BINS = 25


def report_run(path: Path, out: Path | None = None, options: ReportOptions | None = None) -> Path:
    """Write the report of a run, or of a manifest; return its path.

    Args:
        path: the run's folder, or a ``manifest.parquet`` in it.
        out: the file to write; by default ``report.html`` in the run.
        options: what is shown of the faces.

    Raises:
        RunError, ManifestError: if there is nothing to report on.
    """
    run = RunDir(path) if path.is_dir() else RunDir.around(path)
    if path.is_file() and not (run.root / "config.yaml").is_file():
        raise ManifestError(
            f"{path}: a report needs the manifest's run around it, RUN/round-…/pseudo_labels/manifest.parquet"
        )
    if not (run.root / "config.yaml").is_file():
        raise RunError(f"{path}: no run; give the folder of a run, or a manifest.parquet in one")
    summary = read_json(run.summary) if run.summary.is_file() else {}
    manifest = path if path.is_file() else _manifest(run, summary)
    if summary and manifest.resolve().parent.parent.name != Path(summary["manifest"]).parent.parent.name:
        summary = {}  # of another round's student
    return write_report(load_config(run.root / "config.yaml"), run, manifest, summary, out=out, options=options)


def write_report(
    config: RunConfig,
    run: RunDir,
    manifest: Path,
    summary: Mapping[str, Any],
    *,
    out: Path | None = None,
    options: ReportOptions | None = None,
) -> Path:
    """Write the report about a manifest and, unless `summary` is empty, the cycle's results; return its path."""
    context = ReportContext(run, config, manifest, options or ReportOptions(), summary)
    _check_belongs(context)
    out = out or run.root / REPORT
    write_text(out, render_report(report_facts(context), report_faces(context)))
    return out


def report_of_cycle(config: RunConfig, run: RunDir, summary: Mapping[str, Any]) -> str | None:
    """Write the report at a cycle's end; a report that fails is a warning, and the results stand."""
    try:
        return str(write_report(config, run, Path(summary["manifest"]), summary))
    except Exception as error:  # hours of training must not fail for a page
        logger.warning("no report: %s: %s; to try again: ssl-pipeline report %s", type(error).__name__, error, run.root)
        return None


def _manifest(run: RunDir, summary: Mapping[str, Any]) -> Path:
    """Return the manifest that the run's report is about: the compared student's, else the last one."""
    if summary:
        return run.root.joinpath(*Path(summary["manifest"]).parts[-3:])
    manifests = sorted(run.root.glob("round-*/pseudo_labels/manifest.parquet"))
    if not manifests:
        raise RunError(f"{run.root}: no pseudo-labels yet; continue the run first: {run.command}")
    return manifests[-1]


def _check_belongs(context: ReportContext) -> None:
    record = StageRecord.read(context.run.faces)
    if digest_of(record.outputs) != context.pool.metadata["identity"]["faces_digest"]:
        raise ManifestError(
            f"{context.pool.path}: made from other faces than the run has now; continue the run: {context.run.command}"
        )


def report_facts(context: ReportContext) -> dict[str, Any]:
    """Collect what the page says apart from the faces, from the run's records."""
    run, round_index, config = context.run, context.round_index, context.config
    labels_dir = run.pseudo_labels(round_index)
    models = {"teacher": run.teacher, "control": run.control(round_index), "student": run.student(round_index)}
    if not context.summary or context.summary["student"] is None:
        models = {"teacher": run.teacher}
    elif context.summary["control"] is None:
        del models["control"]
    identity = context.pool.metadata["identity"]
    return {
        "run_name": identity["run_name"],
        "round": round_index,
        "summary": dict(context.summary),
        "scores": {name: scores for name, directory in models.items() if (scores := _scores(directory, config))},
        "control_over_teacher": _control_over_teacher(context),
        "selection": _json(labels_dir / "selection.json"),
        "shift": _json(labels_dir / "shift.json"),
        "histograms": _histograms(context.pool),
        "calibration": _calibrations(models),
        "faces": dict(StageRecord.read(run.faces).result),
        "leakage": _json(run.faces / "leakage.json"),
        "gates": [_json(path) for path in sorted(run.root.glob("round-*/student/gate.json"))],
        "unreadable": _unreadable(run),
        "min_units": config.gate.min_units,
        "config": dump_config(config),
        "command": run.command,
        "environment": _json(run.root / "run.json"),
        "identity": identity,
        "records": _records(run),
        "profiles": _profiles(run),
        "options": context.options,
        "has_truth": bool((context.truth >= 0).any()),
    }


def _scores(directory: Path, config: RunConfig) -> dict[str, Any] | None:
    """Return a model's scores on test, else on validation, with the 95 % interval of its macro F1; None without any."""
    for split in ("test", "validation"):
        if (directory / split / "scores.json").is_file():
            faces = pd.read_parquet(directory / split / PREDICTIONS)
            truth, predicted = (faces[name].to_numpy(np.int64) for name in ("class_id", "predicted_class_id"))
            units = independent_units(faces)
            interval = bootstrap_interval(truth, predicted, units, num_classes=config.labels.space.num_classes)
            return {"split": split, "interval": interval, **read_json(directory / split / "scores.json")}
    return None


def _control_over_teacher(context: ReportContext) -> dict[str, Any] | None:
    if not context.summary.get("control"):
        return None
    control = context.run.control(context.round_index)
    return compare_on_split(context.config, context.run.teacher, control, "test").to_dict()


def _histograms(pool: PoolColumns) -> dict[str, Any]:
    """Count the guessed labels of each attribute by confidence, accepted and rejected, in bins of 0.04."""
    edges, histograms = np.linspace(0, 1, _NUM_BINS + 1), {}
    for position, name in enumerate(pool.labels.names):
        confidence = pool.confidence[:, position]
        parts = {"accepted": pool.is_accepted()[:, position], "rejected": pool.is_rejected()[:, position]}
        if any(rows.any() for rows in parts.values()):
            histograms[name] = {
                part: np.histogram(confidence[rows], bins=edges)[0].tolist() for part, rows in parts.items()
            }
    return histograms


def _calibrations(models: Mapping[str, Path]) -> dict[str, Any]:
    """Return each model's reliability before and after calibration, where it was calibrated."""
    found = {}
    for name, directory in models.items():
        if (directory / "calibration" / RECORD).is_file():
            report = StageRecord.read(directory / "calibration").result.get("calibration")
            if report:
                found[name] = report
    return found


def _unreadable(run: RunDir) -> dict[str, int]:
    rejected = pd.read_parquet(run.faces / "rejected.parquet", columns=["reason"])["reason"].astype(str)
    return {str(reason): int(number) for reason, number in rejected.value_counts().head(8).items()}


def _records(run: RunDir) -> list[dict[str, Any]]:
    """List the stages' outputs with their digests."""
    rows = []
    for path in sorted(run.root.glob(f"**/{RECORD}")):
        record = StageRecord.read(path.parent)
        for output, digest in record.outputs.items():
            if not output.endswith(".png") and "face_features" not in path.parts:
                rows.append({"stage": str(path.parent.relative_to(run.root)), "output": output, "digest": digest})
    return rows


def _profiles(run: RunDir) -> list[dict[str, Any]]:
    """Say where the time of the stages went that were measured, in the order in which they ended."""
    paths = sorted(run.root.glob(f"**/{RECORD}"), key=lambda path: path.stat().st_mtime_ns)
    records = [(path.parent.relative_to(run.root), StageRecord.read(path.parent)) for path in paths]
    return [
        {"stage": str(stage), "seconds": record.seconds, "shares": shares_in_words(record.profile)}
        for stage, record in records
        if record.profile
    ]


def _json(path: Path) -> dict[str, Any] | None:
    return read_json(path) if path.is_file() else None
