"""Networks of timm that a run can use: one of each family, tried as `check --models` tries it; writes docs/networks.md.

    OMP_NUM_THREADS=1 python -m benchmarks.timm_families [--sizes 64,96] [--steps 20] [--seed 0] [--only levit,vgg]

A family is a module of `timm.models`; its member is the first in the alphabet of those with the smallest size in their
name. `--steps` trains a seeded sample of those that pass for one step of two faces on the CPU.
"""

import random
import re
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import timm
import torch
import typer
from torch.nn import functional

from ssl_pipeline.config.training import ModelConfig, RoleConfig, TrainingConfig
from ssl_pipeline.errors import PipelineError
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.model import build_model
from ssl_pipeline.learning.network_check import check_network

LABELS = LabelSpace.of({"gender": ["male", "female"], "age": ["<30", "30-59", ">=60"]})
SMALL = ("atto", "femto", "pico", "xxs", "nano", "xxt", "_xs", "xtiny", "tiny", "small", "_t", "_s")
PAGE = Path("docs/networks.md")


def member_of(family: str) -> str:
    """Choose a small model of a family."""

    def rank(name: str) -> tuple[int, str]:
        sizes = [index for index, word in enumerate(SMALL) if word in name]
        return (sizes[0] if sizes else len(SMALL), name)

    return min((name for name in timm.list_models(module=family) if not name.startswith("test_")), key=rank)


def try_network(name: str, size: int) -> tuple[str, str]:
    """Return works, refused or crashes, and the sentence."""
    role = RoleConfig(model=ModelConfig(architecture=name), training=TrainingConfig(epochs=1))
    try:
        check_network(role, key="teacher", labels=LABELS, image_size=size, needs_features=True)
    except PipelineError as error:
        return "refused", str(error)
    except Exception as error:
        return "crashes", f"{type(error).__name__}: {error}"
    return "works", ""


def train_step(name: str, size: int) -> str:
    """Train a network for one step of two faces; return `trains` or the error."""
    torch.manual_seed(0)
    try:
        model = build_model(ModelConfig(architecture=name), labels=LABELS, image_size=size).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        pixels = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
        loss = functional.nll_loss(model(pixels), torch.tensor([0, 5]))
        torch.autograd.backward(loss)
        optimizer.step()
        return "trains" if torch.isfinite(loss) else f"loss {loss.item()}"
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def main(
    sizes: Annotated[str, typer.Option(help="Image sides in pixels, with commas.")] = "64,96",
    steps: Annotated[int, typer.Option(help="Networks to train for a step.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the sample that is trained.")] = 0,
    only: Annotated[str, typer.Option(help="Families, with commas; default all. The page is not written.")] = "",
) -> None:
    """Try one network of each family."""
    torch.set_num_threads(1)
    families = (
        only.split(",") if only else [family for family in timm.list_modules() if timm.list_models(module=family)]
    )
    results: dict[int, dict[str, tuple[str, str]]] = defaultdict(dict)
    names = {family: member_of(family) for family in families}
    for family, name in names.items():
        for size in map(int, sizes.split(",")):
            results[size][name] = try_network(name, size)
            print(f"{family} {name} {size}: {' '.join(results[size][name])}", flush=True)
    lines = [
        "# Networks",
        "",
        f"Written by `python -m benchmarks.timm_families --sizes {sizes} --steps {steps} --seed {seed}` with timm "
        f"{timm.__version__} and torch {torch.__version__}: one network of each of timm's {len(names)} families, tried as "
        "`ssl-pipeline check --models` tries it, on the meta device with a batch of two faces. A network that is refused is refused "
        "before anything is prepared.",
        "",
        "| pixels | works | refused | crashes |",
        "|---|---|---|---|",
    ]
    for size, outcomes in results.items():
        counts = [sum(outcome == kind for outcome, _ in outcomes.values()) for kind in ("works", "refused", "crashes")]
        lines.append(f"| {size} | " + " | ".join(map(str, counts)) + " |")
    refused = [
        f"- {size} px: {_escape(sentence)}"
        for size, outcomes in results.items()
        for outcome, sentence in outcomes.values()
        if outcome != "works"
    ]
    lines += ["", "## Refused", "", *(refused or ["None."])]
    if steps:
        lines += ["", "## One training step on the CPU", "", *_train_sample(results, steps, seed)]
    text = "\n".join(lines) + "\n"
    print(text)
    if not only:
        PAGE.write_text(text, encoding="utf-8")


def _train_sample(results: dict[int, dict[str, tuple[str, str]]], steps: int, seed: int) -> list[str]:
    working = [
        (name, size) for size, outcomes in results.items() for name, (kind, _) in outcomes.items() if kind == "works"
    ]
    sample = random.Random(seed).sample(working, min(steps, len(working)))  # noqa: S311 - no secret
    outcomes = {(name, size): train_step(name, size) for name, size in sample}
    for key, outcome in outcomes.items():
        print(*key, outcome, flush=True)
    num_trained = sum(outcome == "trains" for outcome in outcomes.values())
    failed = [
        f"- {name}, {size} px: {_escape(outcome)}" for (name, size), outcome in outcomes.items() if outcome != "trains"
    ]
    listed = ", ".join(f"{name} ({size})" for name, size in outcomes)
    return [f"{num_trained} of {len(outcomes)} that work (seed {seed}) train: {listed}.", *failed]


def _escape(text: str) -> str:
    return re.sub(r"([*_<>|])", r"\\\1", " ".join(text.split()))


if __name__ == "__main__":
    typer.run(main)
