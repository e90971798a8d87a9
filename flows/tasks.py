"""The library's stages as Prefect tasks, and nothing more.

Prefect caches none of them: a stage skips itself by its own record, which knows whether its files are still there.
"""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from ssl_pipeline import session, stages

_OPTIONS: Any = {"cache_policy": NO_CACHE, "persist_result": False}

prepare = task(stages.prepare, name="prepare", **_OPTIONS)
train_teacher = task(stages.train_teacher, name="train-teacher", **_OPTIONS)
predict = task(stages.predict, name="predict", task_run_name="predict-round-{round_index}", **_OPTIONS)
select = task(stages.select, name="select", task_run_name="select-round-{round_index}", **_OPTIONS)
train_student = task(
    stages.train_student, name="train-student", task_run_name="train-student-round-{round_index}", **_OPTIONS
)
gate = task(stages.gate, name="gate", task_run_name="gate-round-{round_index}", **_OPTIONS)
finish = task(session.finish, name="finish", **_OPTIONS)
