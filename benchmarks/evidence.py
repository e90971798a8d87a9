"""What counts as evidence, in simulation: faces that chose, copies, single teachers for a mean, and too few errors.

    python -m benchmarks.evidence

Each part simulates one fault with known truth, as the library once had it and as it is now; writes docs/evidence.md.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from benchmarks.tables import markdown_table
from ssl_pipeline.evaluation.temperature import apply_temperature
from ssl_pipeline.evaluation.temperature_fit import fit_temperature
from ssl_pipeline.pseudo_labels.precision_guarantee import Evidence, choose_threshold, precision_lower_bound

TARGET, DELTA = 0.9, 0.1
EPOCHS = 30


def chosen_epoch(num_faces: int, *, draws: int, on_others: bool, seed: int = 0) -> float:
    """Share of draws that break the guarantee when the best of `EPOCHS` epochs is tested.

    Every epoch has a true precision just below the target. Its errors agree in part with those of the other epochs.

    Args:
        num_faces: that choose the epoch, and as many others.
        draws: number of draws.
        on_others: test on the others, which chose nothing.
        seed: of the draws.
    """
    rng, broken = np.random.default_rng(seed), 0
    for _ in range(draws):
        shared = rng.normal(size=(1, 2 * num_faces))
        scores = np.sqrt(0.7) * shared + np.sqrt(0.3) * rng.normal(size=(EPOCHS, 2 * num_faces))
        correct = scores < 1.2810  # a normal variable is below with probability 0.8999
        best = correct[:, :num_faces].sum(axis=1).argmax()
        tested = correct[best, num_faces:] if on_others else correct[best, :num_faces]
        broken += bool(precision_lower_bound(tested.sum(), num_faces, delta=DELTA) >= TARGET)
    return broken / draws


def copies(num_pictures: int, num_copies: int, *, draws: int, by_unit: bool, seed: int = 0) -> float:
    """Share of draws that guarantee 0.9 of a teacher that is right on 80 % of the pictures."""
    rng, given = np.random.default_rng(seed), 0
    pictures = np.repeat(np.arange(num_pictures), num_copies)
    for _ in range(draws):
        correct = (rng.random(num_pictures) < 0.8)[pictures]
        units = pictures if by_unit else np.arange(len(pictures))
        evidence = Evidence(np.full(len(pictures), 0.95), correct, units)
        given += choose_threshold(np.array([0.9]), evidence, target=TARGET, delta=DELTA).threshold is not None
    return given / draws


def mean_of_teachers(num_faces: int = 4000, num_teachers: int = 5, seed: int = 0) -> dict[str, tuple[float, ...]]:
    """Accuracy, mean confidence and share of confidences from 0.8: of one teacher, and of the mean, calibrated twice.

    Teachers see the truth behind noise of their own; temperatures are fitted on single teachers, or on their mean.
    """
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, num_faces)
    signal = 1.2 * np.eye(3)[truth]
    logits = 2 * (signal + rng.normal(size=(num_teachers, num_faces, 3)))
    units = np.arange(num_faces)
    single = softmax(logits, axis=2)
    temperature = fit_temperature(single[0], truth, units)
    calibrated = np.stack([apply_temperature(one, temperature) for one in single])
    mean = calibrated.mean(axis=0)
    recalibrated = apply_temperature(mean, fit_temperature(mean, truth, units))

    def scores(probabilities: np.ndarray) -> tuple[float, ...]:
        confidence = probabilities.max(axis=1)
        right = probabilities.argmax(axis=1) == truth
        return float(right.mean()), float(confidence.mean()), float((confidence >= 0.8).mean())

    return {
        "one teacher, temperature of the teachers": scores(calibrated[0]),
        "their mean, temperature of the teachers (before)": scores(mean),
        "their mean, temperature of the mean (now)": scores(recalibrated),
    }


def temperature_of(num_right: int, num_faces: int, confidence: float = 0.6) -> tuple[float, float]:
    """Temperatures fitted on faces of equal confidence: by the log loss alone, within 0.05 to 20, and as now."""
    rows = np.tile([confidence, 1 - confidence], (num_faces, 1))
    truth = (np.arange(num_faces) >= num_right).astype(np.int64)

    def log_loss(log_temperature: float) -> float:
        chosen = apply_temperature(rows, float(np.exp(log_temperature)))[np.arange(num_faces), truth]
        return float(-np.log(np.maximum(chosen, 1e-12)).mean())

    bounds = (float(np.log(0.05)), float(np.log(20.0)))
    before = float(np.exp(minimize_scalar(log_loss, bounds=bounds, method="bounded").x))
    return before, fit_temperature(rows, truth, np.arange(num_faces))


def report(draws: int) -> str:
    """Run all simulations and lay them out as Markdown."""
    epochs = [
        [
            str(faces),
            *(f"{chosen_epoch(faces, draws=draws, on_others=others):.1%}" for others in (False, True)),
        ]
        for faces in (50, 100, 400)
    ]
    pictures = [
        [
            f"{pictures} × {number}",
            *(f"{copies(pictures, number, draws=draws, by_unit=unit):.1%}" for unit in (False, True)),
        ]
        for pictures, number in ((5, 6), (10, 10), (50, 4))
    ]
    means = [
        [name, *(f"{value:.3f}" for value in values[:2]), f"{values[2]:.1%}"]
        for name, values in mean_of_teachers().items()
    ]
    temperatures = []
    for right, faces in ((100, 100), (95, 100), (50, 100)):
        before, now = temperature_of(right, faces)
        rows = np.array([[0.6, 0.4]])
        cells = [f"{one:.2f}: {apply_temperature(rows, one)[0, 0]:.4f}" for one in (before, now)]
        is_refused = now < 0.505 or now > 19.8
        temperatures.append([f"{right} of {faces}", cells[0], "refused: 0.6 stays" if is_refused else cells[1]])
    return "\n".join(
        [
            "# What counts as evidence",
            "",
            f"Written by `python -m benchmarks.evidence`; numpy's generator, seed 0, {draws:,} draws per cell. Precision "
            f"{TARGET} is guaranteed with confidence {1 - DELTA:g}: at most {DELTA:.0%} of the draws may break it.",
            "",
            f"**Faces that chose.** The best of {EPOCHS} epochs, whose true precision is 0.8999; share of broken guarantees "
            "when the faces that chose the epoch test it, and when others do.",
            "",
            *markdown_table(
                ["faces", "tested on the choosing faces (before)", "on faces that chose nothing (now)"], "rrr", epochs
            ),
            "",
            "**Copies.** A teacher that is right on 80 % of the pictures; share of draws in which 0.9 is guaranteed.",
            "",
            *markdown_table(
                ["pictures × copies", "counting faces (before)", "counting persons and pictures (now)"], "lrr", pictures
            ),
            "",
            "**One predictor.** Five noisy teachers: accuracy, mean confidence, and share of confidences of at least 0.8.",
            "",
            *markdown_table(["predictor", "accuracy", "confidence", "from 0.8"], "lrrr", means),
            "",
            "**Too few errors.** Temperature fitted on faces predicted at 0.6, and what 0.6 becomes.",
            "",
            *markdown_table(
                ["right", "log loss alone, 0.05 to 20 (before)", "smoothed targets, from 0.5 (now)"],
                "lrr",
                temperatures,
            ),
            "",
        ]
    )


def main(draws: Annotated[int, typer.Option(min=1)] = 2000, out: Path = Path("docs/evidence.md")) -> None:
    """Simulate, and write the tables."""
    out.write_text(report(draws), encoding="utf-8")
    print(f"written to {out}")


if __name__ == "__main__":
    typer.run(main)
