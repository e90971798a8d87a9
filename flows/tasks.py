"""The library's stages as Prefect tasks, with GPU slots, retries, progress bars and pages.

No Prefect caching: each stage skips itself by its record, which also checks that its files still exist.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.reports.stage_pages import (
    Page,
    faces_page,
    fold_teachers_page,
    gate_page,
    masks_page,
    selection_page,
    training_page,
)
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import read_json
from ssl_pipeline.runs.gpu_slots import provide_gpu_slots
from ssl_pipeline.stages import cross_fit, review, selection, student_labels, teachers, train
from ssl_pipeline.stages import draw as drawing
from ssl_pipeline.stages import finish as finishing
from ssl_pipeline.stages import gate as gating
from ssl_pipeline.stages import predict as predicting
from ssl_pipeline.stages import prepare as preparing
from ssl_pipeline.stages.cross_fit import CrossFit
from ssl_pipeline.stages.draw import DrawnFaces
from ssl_pipeline.stages.gate import GateResult
from ssl_pipeline.stages.label_sheet import render_label_sheet
from ssl_pipeline.stages.prepare import PreparedFaces
from ssl_pipeline.stages.selection import SelectionResult
from ssl_pipeline.stages.train import TrainedModel

from .operations.artifacts import progress_bars, show
from .operations.limits import gpu_slots
from .operations.retries import RETRY_DELAYS_SECONDS, is_passing

P = ParamSpec("P")
R = TypeVar("R")


def _task(
    stage: Callable[P, R],
    name: str,
    *,
    per_round: bool = False,
    retries: bool = False,
    pages: Callable[..., Iterable[Page]] | None = None,
) -> Task[P, R]:
    """Wrap a stage as a task.

    Args:
        stage: the stage.
        name: the task's name; its runs are named the same, or ``name-round-1`` if `per_round`.
        per_round: whether the stage has an argument `round_index`.
        retries: whether to try again after an error of files or of the network that passes by itself.
        pages: makes the pages to publish, from the stage's result and arguments.
    """

    @wraps(stage)
    def run_stage(*args: P.args, **kwargs: P.kwargs) -> R:
        with provide_gpu_slots(gpu_slots), progress_bars():
            result = stage(*args, **kwargs)
        if pages is not None:
            show(lambda: pages(result, *args, **kwargs))
        return result

    run_name = f"{name}-round-{{round_index}}" if per_round else name
    return task(
        name=name,
        task_run_name=run_name,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=len(RETRY_DELAYS_SECONDS) if retries else 0,
        retry_delay_seconds=list(RETRY_DELAYS_SECONDS),
        retry_condition_fn=is_passing,
    )(run_stage)


def _masked_faces(result: DrawnFaces, *_: object) -> Iterable[Page]:
    if result.masked_sets:
        yield masks_page(result.masked_sets)


def _faces(result: PreparedFaces, config: RunConfig, run: RunDir) -> Iterable[Page]:
    yield faces_page(result.counts, run.faces)


def _training(name: str, model: TrainedModel) -> Page:
    return training_page(name, asdict(model), model.directory, pictures=model.pictures)


def _teacher(model: TrainedModel, config: RunConfig, run: RunDir) -> Iterable[Page]:
    yield _training("teacher", model)


def _fold_teachers(result: CrossFit | None, config: RunConfig, run: RunDir) -> Iterable[Page]:
    if result is not None:
        yield fold_teachers_page(asdict(result), result.directory, pictures=result.pictures)


def _pseudo_labels(result: SelectionResult, config: RunConfig, run: RunDir, round_index: int) -> Iterable[Page]:
    directory = run.pseudo_labels(round_index)
    yield selection_page(
        read_json(directory / "selection.json"), directory, sheet=render_label_sheet(config, run, round_index)
    )


def _student(
    model: TrainedModel, config: RunConfig, run: RunDir, round_index: int, manifest_path: Path | None = None
) -> Iterable[Page]:
    yield _training(f"student {round_index}", model)


def _control(model: TrainedModel, config: RunConfig, run: RunDir, round_index: int) -> Iterable[Page]:
    yield _training(f"control {round_index}", model)


def _gate(result: GateResult, config: RunConfig, run: RunDir, round_index: int, teacher_dir: Path) -> Iterable[Page]:
    yield gate_page(asdict(result), round_index, run.root)


draw = _task(drawing.draw, "draw", retries=True, pages=_masked_faces)
draw_masks = _task(drawing.draw_masks, "draw-masks", retries=True, pages=_masked_faces)
prepare = _task(preparing.prepare, "prepare", retries=True, pages=_faces)
train_teacher = _task(teachers.train_teacher, "train-teacher", pages=_teacher)
train_fold_teachers = _task(cross_fit.train_fold_teachers, "train-fold-teachers", pages=_fold_teachers)
predict = _task(predicting.predict, "predict", retries=True, per_round=True)
select = _task(selection.select, "select", per_round=True, pages=_pseudo_labels)
changed_label_share = _task(selection.changed_label_share, "changed-label-share", per_round=True)
ask_review = _task(review.ask_review, "ask-review", per_round=True)
train_student = _task(train.train_student, "train-student", per_round=True, pages=_student)
train_control = _task(train.train_control, "train-control", per_round=True, pages=_control)
gate = _task(gating.gate, "gate", per_round=True, pages=_gate)
label_pool_again = _task(student_labels.label_pool_again, "label-pool-again", retries=True, per_round=True)
finish = _task(finishing.finish, "finish", retries=True)
