"""The library's stages as Prefect tasks, and nothing more.

Prefect caches none of them: a stage skips itself by its own record, which knows whether its files are still there.
"""

from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE

from flows.limits import gpu_slots
from flows.showing import progress_shown, show
from ssl_pipeline import fold_teachers, judging, review_request, session, stages
from ssl_pipeline.config import RunConfig
from ssl_pipeline.label_sheet import draw_label_sheet
from ssl_pipeline.reports.stage_pages import (
    Page,
    faces_page,
    fold_teachers_page,
    gate_page,
    masks_page,
    selection_page,
    training_page,
)
from ssl_pipeline.runs import RunDir, read_json
from ssl_pipeline.slots import slots_taken_by

P = ParamSpec("P")
R = TypeVar("R")


def _task(
    stage: Callable[P, R],
    name: str,
    *,
    run_name: str | None = None,
    pages: Callable[..., Iterable[Page]] | None = None,
) -> Task[P, R]:
    """Wrap a stage; `pages` makes what the UI shows of it, from what it returned and was given."""

    @wraps(stage)
    def in_its_turn(*args: P.args, **kwargs: P.kwargs) -> R:
        with slots_taken_by(gpu_slots), progress_shown():
            result = stage(*args, **kwargs)
        if pages is not None:
            show(lambda: pages(result, *args, **kwargs))
        return result

    return task(name=name, task_run_name=run_name or name, cache_policy=NO_CACHE, persist_result=False)(in_its_turn)


def _faces(record: stages.Record, config: RunConfig, run: RunDir) -> Iterable[Page]:
    yield faces_page(record, run.faces)


def _teacher(record: stages.Record, config: RunConfig, run: RunDir) -> Iterable[Page]:
    yield training_page("teacher", record, run.teacher)


def _fold_teachers(record: stages.Record, config: RunConfig, run: RunDir) -> Iterable[Page]:
    folds = range(len(record["result"]["by_fold"]))
    yield fold_teachers_page(
        record, [read_json(run.fold_teacher(fold) / "done.json") for fold in folds], run.out_of_fold
    )


def _pseudo_labels(record: stages.Record, config: RunConfig, run: RunDir, round_index: int) -> Iterable[Page]:
    directory = run.pseudo_labels(round_index)
    yield selection_page(
        read_json(directory / "selection.json"), directory, sheet=draw_label_sheet(config, run, round_index)
    )


def _student(
    record: stages.Record, config: RunConfig, run: RunDir, round_index: int, manifest_path: Path | None = None
) -> Iterable[Page]:
    yield training_page(f"student {round_index}", record, run.student(round_index))


def _gate(
    decision: stages.Record, config: RunConfig, run: RunDir, round_index: int, teacher_dir: Path
) -> Iterable[Page]:
    yield gate_page(decision, round_index, run.root)


draw_masks = _task(stages.draw_masks, "draw-masks", pages=lambda records, *_: [masks_page(records)])
prepare = _task(stages.prepare, "prepare", pages=_faces)
train_teacher = _task(stages.train_teacher, "train-teacher", pages=_teacher)
train_fold_teachers = _task(fold_teachers.train_fold_teachers, "train-fold-teachers", pages=_fold_teachers)
predict = _task(stages.predict, "predict", run_name="predict-round-{round_index}")
select = _task(stages.select, "select", run_name="select-round-{round_index}", pages=_pseudo_labels)
ask_review = _task(review_request.ask_review, "ask-review", run_name="ask-review-round-{round_index}")
measure_news = _task(judging.measure_news, "measure-news", run_name="measure-news-round-{round_index}")
train_student = _task(
    stages.train_student, "train-student", run_name="train-student-round-{round_index}", pages=_student
)
gate = _task(judging.gate, "gate", run_name="gate-round-{round_index}", pages=_gate)
finish = _task(session.finish, "finish")
