"""A run from its opening to its summary: the lock, the resolved config, the status, the final record."""

import logging
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from ssl_pipeline import __version__
from ssl_pipeline.config import RunConfig
from ssl_pipeline.config_loading import dump_config
from ssl_pipeline.errors import RunError
from ssl_pipeline.judging import PREDICTIONS, compare_models, evaluate
from ssl_pipeline.learning.device import resolve_device
from ssl_pipeline.reports.pictures import draw_class_f1
from ssl_pipeline.review import is_waiting
from ssl_pipeline.runs import RunDir, read_json, write_json, write_text
from ssl_pipeline.selection_review import standing_decision
from ssl_pipeline.stages import Record, check
from ssl_pipeline.storage.mirror import kept_in

logger = logging.getLogger(__name__)

_PACKAGES = ("torch", "torchvision", "timm", "accelerate", "matplotlib", "numpy", "pandas", "pillow", "scikit-learn")


@contextmanager
def open_run(config: RunConfig) -> Iterator[RunDir]:
    """Open a run's directory for this process, note what it is made with, and how it ends.

    Raises:
        ConfigError: if the config asks for what is not there.
        RunError: if another process, or another machine by way of the storage, is working in the run.
        StorageError: if the storage cannot be reached, or at the end not everything got there.
    """
    check(config)
    run = RunDir(config.runs_root / config.run_name)
    about = {"run_name": config.run_name, "seed": config.seed, **environment(config)}
    with run.lock(), kept_in(config.storage, run.root):
        write_text(run.root / "config.yaml", dump_config(config))
        write_json(run.root / "run.json", {"status": "running", **about})
        try:
            yield run
        except BaseException as error:
            # what is no Exception came from outside: Ctrl-C, a signal, whoever runs the flows
            is_ours = isinstance(error, Exception)
            how = {"status": "failed" if is_ours else "cancelled"}
            how["error"] = str(error) or (repr(error) if is_ours else f"stopped from outside ({type(error).__name__})")
            if is_waiting(run):  # whatever it is that ended the process: an orchestrator's signal, a closed terminal
                how = {"status": "waiting for review"}
            with suppress(RunError):  # a full disk has been told already, and is what ended the run
                write_json(run.root / "run.json", {**how, **about})
            raise
        write_json(run.root / "run.json", {"status": "finished", **about})


def environment(config: RunConfig) -> Record:
    """What a run's figures depend on beside its config."""
    versions = {"ssl-pipeline": __version__, "python": platform.python_version()}
    versions |= {package: version(package) for package in _PACKAGES}
    return {"device": str(resolve_device(config.device)), "machine": platform.machine(), "versions": versions}


def finish(config: RunConfig, run: RunDir, *, last_round: int, promoted: Path, news: Record | None = None) -> Record:
    """Use the test split, once, on the first teacher and on the student; write summary.json.

    Where a person rejected the first round's selection there is no student, and the test split stays unused.

    Args:
        config: the run's.
        run: the run's directory.
        last_round: the last round that ran; if a person rejected its selection, it has no student.
        promoted: directory of the model that the gates left standing, the first teacher's if they refused every student.
        news: of the last round that was selected for, by `judging.measure_news`; None after the first.
    """
    kept_teacher = promoted == run.teacher
    reviews = _reviews(config, run, last_round)
    stopped = bool(reviews) and reviews[-1]["round"] == last_round and reviews[-1]["choice"] == "reject"
    last_student = last_round - 1 if stopped else last_round
    compared = last_student if kept_teacher else int(promoted.parent.name.removeprefix("round-"))
    selected = compared or last_round
    counts = read_json(run.faces / "done.json")["result"]
    selection = read_json(run.pseudo_labels(selected) / "selection.json")
    summary = {
        "status": "stopped by review" if stopped else "finished",
        "run_name": config.run_name,
        "promoted": "teacher" if kept_teacher else "student",
        "promoted_checkpoint": str(promoted / "best.safetensors"),
        **(_comparison(config, run, compared) if compared else _teacher_alone(config, run)),
        "counts": {
            "labeled": counts["labeled"]["train"] + counts["labeled"]["validation"],
            "train": counts["labeled"]["train"],
            "validation": counts["labeled"]["validation"],
            "test": counts["labeled"]["test"],
            **{name: selection["counts"][name] for name in ("candidates", "accepted", "rejected", "unreadable")},
            "removed_from_pool": counts["leakage"],
        },
        "purity": selection["purity"],
        "selection_faults": selection["selection"]["faults"],
        "shift": selection["selection"]["shift"],
        "reviews": reviews,
        "news": news,
        "rounds": [read_json(run.student(index) / "gate.json") for index in range(1, last_student + 1)],
        "manifest": str(run.pseudo_labels(selected) / "manifest.parquet"),
        "pictures": [*(["class_f1.png"] if compared else []), *stage_pictures(run)],
        "seconds": stage_seconds(run),
        "seed": config.seed,
        **environment(config),
    }
    write_json(run.summary, summary)
    return summary


def _reviews(config: RunConfig, run: RunDir, last_round: int) -> list[Record]:
    """What a person decided, round by round."""
    if config.review == "none":
        return []
    decisions = {index: standing_decision(config, run, index) for index in range(1, last_round + 1)}
    return [{"round": index, **of.model_dump(mode="json")} for index, of in decisions.items() if of is not None]


def _comparison(config: RunConfig, run: RunDir, student_round: int) -> Record:
    """The first teacher and a round's student on validation and test, and a picture of both."""
    student_dir = run.student(student_round)
    teacher, student = _scores(config, run, run.teacher), _scores(config, run, student_dir)
    both = {"teacher": teacher["test"]["per_class"], f"student {student_round}": student["test"]["per_class"]}
    draw_class_f1(run.root / "class_f1.png", both, title="Teacher against student on test: F1 by class")
    return {
        "teacher": teacher,
        "student": {"round": student_round, **student},
        "test_difference": _test_difference(config, run.teacher, student_dir),
    }


def _teacher_alone(config: RunConfig, run: RunDir) -> Record:
    """The teacher on validation: with nothing to compare, the test split is kept for when there is."""
    validation = evaluate(config, run, run.teacher, "validation")["result"]
    return {"teacher": {"validation": validation}, "student": None, "test_difference": None}


def _scores(config: RunConfig, run: RunDir, model_dir: Path) -> dict[str, Any]:
    return {
        "validation": evaluate(config, run, model_dir, "validation")["result"],
        "test": evaluate(config, run, model_dir, "test")["result"],
    }


def _test_difference(config: RunConfig, teacher_dir: Path, student_dir: Path) -> Record:
    """Student less teacher on the test faces, with its interval, and the groups in which the student is clearly worse."""
    teacher, student = (pd.read_parquet(directory / "test" / PREDICTIONS) for directory in (teacher_dir, student_dir))
    found, regressions = compare_models(teacher, student, config.gate, labels=config.labels.space)
    return {"metric": config.gate.metric, "comparison": asdict(found), "regressions": regressions}


def stage_seconds(run: RunDir) -> dict[str, float]:
    """How long each finished stage worked, by its directory inside the run."""
    records = sorted(run.root.rglob("done.json"))
    return {str(path.parent.relative_to(run.root)): read_json(path)["seconds"] for path in records}


def stage_pictures(run: RunDir) -> list[str]:
    """Name the pictures that the finished stages list among their outputs, by their paths inside the run."""
    return [
        str((record.parent / name).relative_to(run.root))
        for record in sorted(run.root.rglob("done.json"))
        for name in read_json(record)["outputs"]
        if name.endswith(".png")
    ]
