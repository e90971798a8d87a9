"""The library's stages as Prefect tasks, and nothing more.

Prefect caches none of them: a stage skips itself by its own record, which knows whether its files are still there.
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE

from flows.limits import gpu_slots
from ssl_pipeline import fold_teachers, judging, review_request, session, stages
from ssl_pipeline.slots import slots_taken_by

P = ParamSpec("P")
R = TypeVar("R")


def _task(stage: Callable[P, R], name: str, *, run_name: str | None = None) -> Task[P, R]:
    @wraps(stage)
    def in_its_turn(*args: P.args, **kwargs: P.kwargs) -> R:
        with slots_taken_by(gpu_slots):
            return stage(*args, **kwargs)

    return task(name=name, task_run_name=run_name, cache_policy=NO_CACHE, persist_result=False)(in_its_turn)


draw_masks = _task(stages.draw_masks, "draw-masks")
prepare = _task(stages.prepare, "prepare")
train_teacher = _task(stages.train_teacher, "train-teacher")
train_fold_teachers = _task(fold_teachers.train_fold_teachers, "train-fold-teachers")
predict = _task(stages.predict, "predict", run_name="predict-round-{round_index}")
select = _task(stages.select, "select", run_name="select-round-{round_index}")
ask_review = _task(review_request.ask_review, "ask-review", run_name="ask-review-round-{round_index}")
measure_news = _task(judging.measure_news, "measure-news", run_name="measure-news-round-{round_index}")
train_student = _task(stages.train_student, "train-student", run_name="train-student-round-{round_index}")
gate = _task(judging.gate, "gate", run_name="gate-round-{round_index}")
finish = _task(session.finish, "finish")
