"""The config's section for the gate: when a student takes its teacher's place."""

from typing import Annotated, Literal

from pydantic import Field

from ssl_pipeline.config_base import Section


class GateConfig(Section):
    """A student is promoted if it is better on the validation faces, and probably so: by a bootstrap over persons."""

    metric: Literal["macro_f1", "accuracy"] = "macro_f1"
    min_probability: Annotated[float, Field(ge=0.5, le=1)] = 0.5
    """Least share of the draws in which the student is better. 0.5 asks no more than that it is better on the whole; 0.95
    asks for evidence, which a hundred faces rarely give."""
    num_draws: int = Field(default=2000, ge=100, le=100_000)
    refuse_regressions: bool = False
    """Refuse a student that is clearly worse in the accuracy of some group of faces: its 95 % interval lies below 0. Each
    group is looked at by itself, so that of twenty equal ones one may look worse by chance."""
