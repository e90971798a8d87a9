"""False alarms and power of the gate's test for worse groups, in simulation; writes docs/gate.md.

    python -m benchmarks.gate_simulation

A draw gives every unit (one face of one person) whether the teacher and the student are right on it, independently, the
teacher in 70 % of cases. Eight groups of equal size are tested. *Before*: a group is called worse if the 95 % interval of
a paired bootstrap lies below 0, each group alone. *After*: the exact sign test with Holm's correction, groups of
`gate.min_units` or more.
"""

import time
from functools import cache
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.tables import markdown_table
from ssl_pipeline.config.evaluation import GateConfig
from ssl_pipeline.evaluation.model_comparison import FALSE_ALARM_RATE
from ssl_pipeline.evaluation.sign_test import holm, sign_test
from ssl_pipeline.labels import BoolArray

NUM_GROUPS, ACCURACY, NUM_BOOTSTRAP_DRAWS = 8, 0.7, 2000
SIZES, LOSSES = (1, 2, 5, 10, 20, 50, 100, 200), (0.1, 0.2)


@cache
def bootstrap_flags(num_units: int, num_better: int, num_worse: int) -> bool:
    """Apply the old rule: whether the 97.5 % quantile of the bootstrapped accuracy differences is below 0.

    Resampling units of one face draws the numbers of better and worse ones from a multinomial distribution.
    """
    rng = np.random.default_rng([num_units, num_better, num_worse])
    shares = np.array([num_better, num_worse, num_units - num_better - num_worse]) / num_units
    counts = rng.multinomial(num_units, shares, size=NUM_BOOTSTRAP_DRAWS)
    return bool(np.quantile((counts[:, 0] - counts[:, 1]) / num_units, 0.975) < 0)


def flags_before(teacher: BoolArray, student: BoolArray) -> BoolArray:
    """Return which groups the old rule calls worse, bool [groups], from bool [groups, units]."""
    better, worse = (student & ~teacher).sum(axis=1), (teacher & ~student).sum(axis=1)
    counts = zip(better.tolist(), worse.tolist(), strict=True)
    return np.array([bootstrap_flags(teacher.shape[1], *pair) for pair in counts])


def flags_after(teacher: BoolArray, student: BoolArray) -> BoolArray:
    """Return which groups the gate's rule calls worse, bool [groups], from bool [groups, units]."""
    num_groups, num_units = teacher.shape
    if num_units < GateConfig().min_units:
        return np.zeros(num_groups, dtype=bool)
    units = np.arange(num_units)
    tests = [sign_test(*group, units) for group in zip(teacher, student, strict=True)]
    return np.asarray(holm([test.p_value for test in tests]) <= FALSE_ALARM_RATE)


def simulate(num_units: int, *, loss: float, num_draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which groups are flagged before and after, bool [draws, groups] each; the student loses in group 0."""
    rng, shape = np.random.default_rng([seed, num_units]), (num_draws, NUM_GROUPS, num_units)
    student_accuracy = np.full((NUM_GROUPS, 1), ACCURACY)
    student_accuracy[0] -= loss
    teacher, student = rng.random(shape) < ACCURACY, rng.random(shape) < student_accuracy
    pairs = list(zip(teacher, student, strict=True))
    before, after = ([rule(*pair) for pair in pairs] for rule in (flags_before, flags_after))
    return np.array(before), np.array(after)


def rows(num_draws: int, seed: int) -> list[list[str]]:
    """Return the table's row of each group size."""
    table = []
    for num_units in SIZES:
        cells = [str(num_units)]
        equal = simulate(num_units, loss=0, num_draws=num_draws, seed=seed)
        cells += [f"{100 * share:.1f}" for flags in equal for share in (flags.mean(), flags.any(axis=1).mean())]
        for loss in LOSSES:
            worse = simulate(num_units, loss=loss, num_draws=num_draws, seed=seed)
            cells += [f"{100 * flags[:, 0].mean():.1f}" for flags in worse]
        table.append(cells)
    return table


def report(num_draws: int, seed: int) -> str:
    """Lay out the simulation as Markdown."""
    config = GateConfig()
    header = [
        "units per group",
        "before: a given group",
        "before: any group",
        "after: a given group",
        "after: any group",
    ]
    header += [f"{when}: loss of {100 * loss:.0f} points" for loss in LOSSES for when in ("before", "after")]
    return "\n".join(
        [
            "# When the gate calls a group worse",
            "",
            f"Written by `python -m benchmarks.gate_simulation --draws {num_draws} --seed {seed}`.",
            "",
            "A student is promoted if its metric on the validation faces is better than the teacher's, no group of "
            "faces (an attribute's value, an origin) is worse, and it is no coin flip: the student must be better in at "
            f"least {100 * config.min_probability:.0f} % of {config.num_draws:,} bootstrap samples of the faces "
            "(`gate.min_probability`; 0.5 promotes on any gain). With fewer than `gate.min_units` units there is no "
            "such evidence, and by default no promotion. The evidence is counted in independent units: a person's "
            "faces, and copies of a picture, are one unit. For each group with at least `gate.min_units` "
            f"({config.min_units}) units, the exact sign test (McNemar's, if each unit has one face) compares the units on "
            "which the student has fewer correct faces with those on which it has more. Holm's correction over all tested "
            f"groups keeps the probability of calling any group worse at {100 * FALSE_ALARM_RATE:.0f} % or less if the "
            "student is worse in none. Smaller groups are named as not tested. `gate.refuse_regressions: false` promotes "
            "such a student and only names the groups.",
            "",
            f"Simulation: {NUM_GROUPS} groups, {num_draws:,} draws, the teacher right on {100 * ACCURACY:.0f} % of the "
            "faces, one face per unit. *Before* is the rule of earlier versions: the 95 % interval of a bootstrap below 0, "
            "each group alone, 2.5 % nominal. Percent of draws: with equal models, in which a given group and in which any "
            "group is called worse; with a true loss in one group, in which that one is.",
            "",
            *markdown_table(header, "r" * len(header), rows(num_draws, seed)),
            "",
        ]
    )


def main(
    draws: Annotated[int, typer.Option(help="Draws per group size.")] = 1000,
    seed: Annotated[int, typer.Option()] = 0,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("docs/gate.md"),
) -> None:
    """Simulate and write the page."""
    started = time.perf_counter()
    out.write_text(report(draws, seed), encoding="utf-8")
    print(f"written to {out} in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    typer.run(main)
