"""Coverage and width of intervals for the precision of audited labels, in simulation; writes docs/audit-intervals.md.

    python -m benchmarks.audit_intervals

A draw answers a sample of labels as the audit allocates it (equally per stratum; small strata give all they have), right
with the stratum's true precision. The 95 % interval of the precision of all labels is computed by three methods: *Kish*,
the exact binomial interval for the effective sample size (earlier versions); *gamma*, Fay and Feuer's (Statistics in
Medicine 16, 1997) in binomial form; *profile*, the one that is used, see `pseudo_labels.stratified_interval`.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from scipy.stats import beta

from benchmarks.tables import markdown_table
from ssl_pipeline.pseudo_labels.audit import CONFIDENCE, allocate
from ssl_pipeline.pseudo_labels.stratified_interval import lower_bounds, upper_bounds

NUM_LABELS = 20_000
ALPHA = (1 - CONFIDENCE) / 2
Interval = tuple[np.ndarray, np.ndarray]


def kish(correct: np.ndarray, judged: np.ndarray, weights: np.ndarray) -> Interval:
    """Return the exact binomial interval for Kish's effective sample size, [D] each."""
    num = 1 / (weights**2 / judged).sum()
    x = np.where((correct == judged).all(axis=1), 1.0, np.clip(correct / judged @ weights, 0, 1)) * num
    return _beta(ALPHA, x, num - x + 1), _beta(1 - ALPHA, x + 1, num - x)


def gamma(correct: np.ndarray, judged: np.ndarray, weights: np.ndarray) -> Interval:
    """Return Fay and Feuer's interval of the share of wrong labels, by Beta instead of Gamma, as precision, [D] each."""
    wrong, scale = judged - correct, weights / judged
    mean, variance = wrong @ scale, wrong @ scale**2
    num_more = (mean + scale.max()) ** 2 / (variance + scale.max() ** 2)
    upper = _beta(1 - ALPHA, num_more, num_more / (mean + scale.max()) - num_more + 1)
    num = mean**2 / np.maximum(variance, 1e-300)
    lower = _beta(ALPHA, num, mean / np.maximum(variance, 1e-300) - num + 1)
    return 1 - upper, 1 - lower


def profile(correct: np.ndarray, judged: np.ndarray, weights: np.ndarray) -> Interval:
    """Return the audit's interval, [D] each."""
    return tuple(bound(correct, judged, weights, alpha=ALPHA) for bound in (lower_bounds, upper_bounds))  # type: ignore[return-value]


def _beta(quantile: float, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    inside = beta.ppf(quantile, np.maximum(a, 1e-9), np.maximum(b, 1e-9))
    return np.where(a <= 1e-9, 0.0, np.where(b <= 1e-9, 1.0, inside))


METHODS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], Interval]] = {
    "Kish": kish,
    "gamma": gamma,
    "profile": profile,
}


def cases(num_strata: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield name, share and true precision of the strata, float [H] each."""
    equal = np.full(num_strata, 1 / num_strata)
    one = np.r_[0.3, np.full(num_strata - 1, 0.7 / (num_strata - 1))]
    falling = np.maximum((0.5 if num_strata <= 6 else 0.75) ** np.arange(num_strata), 0.005)
    falling /= falling.sum()
    rare = np.arange(num_strata) >= num_strata / 2
    yield "30 % of the labels at 0.7, others at 1", one, np.where(one == 0.3, 0.7, 1.0)
    yield "30 % of the labels at 0.9, others at 1", one, np.where(one == 0.3, 0.9, 1.0)
    yield "all at 1", falling, np.ones(num_strata)
    yield "all at 0.9, equal sizes", equal, np.full(num_strata, 0.9)
    yield "all at 0.9, falling sizes", falling, np.full(num_strata, 0.9)
    yield "all at 0.7, equal sizes", equal, np.full(num_strata, 0.7)
    yield "rare half at 0.3, others at 0.98", falling, np.where(rare, 0.3, 0.98)
    yield "from 0.6 to 1 at random", falling, np.random.default_rng(num_strata).uniform(0.6, 1, num_strata)


def measure(
    shares: np.ndarray, precisions: np.ndarray, num_answers: int, num_draws: int, seed: int
) -> list[list[float]]:
    """Return coverage and mean width of each method, in percent."""
    sizes = np.maximum(np.round(shares * NUM_LABELS), 1).astype(np.int64)
    judged, weights = allocate(sizes, num_answers), sizes / sizes.sum()
    draws = np.random.default_rng(seed).binomial(judged, precisions, size=(num_draws, len(sizes)))
    results, positions = np.unique(draws, axis=0, return_inverse=True)  # few different ones if precisions are high
    truth, rows = float(weights @ precisions), []
    for method in METHODS.values():
        lower, upper = (
            bound[positions.ravel()] for bound in method(results.astype(float), judged.astype(float), weights)
        )
        covered = (lower <= truth + 1e-6) & (truth - 1e-6 <= upper)
        rows.append([100 * covered.mean(), 100 * (upper - lower).mean()])
    return rows


def report(num_draws: int, seed: int) -> str:
    """Lay out the simulation as Markdown."""
    table, lowest = [], dict.fromkeys(METHODS, 100.0)
    for num_strata in (2, 6, 18, 50):
        for num_answers in (50, 100, 400):
            for name, shares, precisions in cases(num_strata):
                rows = measure(shares, precisions, num_answers, num_draws, seed)
                cells = [f"{coverage:.1f} ({width:.1f})" for coverage, width in rows]
                table.append([str(num_strata), str(num_answers), name, *cells])
                lowest = {key: min(lowest[key], row[0]) for key, row in zip(METHODS, rows, strict=True)}
    header = ["strata", "answers", "true precision", *METHODS]
    return "\n".join(
        [
            "# Do the audit's intervals cover?",
            "",
            f"Written by `python -m benchmarks.audit_intervals --draws {num_draws} --seed {seed}`.",
            "",
            f"Percent of {num_draws:,} draws in which the 95 % interval contains the true precision, and in brackets the "
            "interval's mean width in points. The sample has equally many answers per stratum, as `manifest audit` takes it. "
            "*Kish* is the interval of earlier versions, *gamma* is Fay and Feuer's in binomial form, *profile* the one that "
            "is used (`pseudo_labels/stratified_interval.py`). Lowest coverage: "
            + ", ".join(f"{name} {coverage:.1f} %" for name, coverage in lowest.items())
            + f". {num_draws:,} draws measure a coverage of 95 % to within "
            f"{196 * np.sqrt(0.95 * 0.05 / num_draws):.1f} points.",
            "",
            *markdown_table(header, "rrlrrr", table),
            "",
        ]
    )


def main(
    draws: Annotated[int, typer.Option(help="Draws per case.")] = 1000,
    seed: Annotated[int, typer.Option()] = 0,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("docs/audit-intervals.md"),
) -> None:
    """Simulate and write the page."""
    started = time.perf_counter()
    out.write_text(report(draws, seed), encoding="utf-8")
    print(f"written to {out} in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    typer.run(main)
