"""Mutation testing by mutmut: how many small changes of the code no test notices; writes docs/mutants.md.

python -m benchmarks.mutants            (make mutants; continues where it was stopped)
"""

import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.tables import markdown_table

NOTHING = "no-mutant-has-this-name"
STATUS = {0: "survived", 5: "no tests", 33: "no tests", None: "not run"}
"""By the exit code of a mutant's tests; all others, e.g. a failed test or a timeout, mean killed."""


@dataclass(frozen=True)
class Group:
    """Code to mutate, and the tests that have to notice it: those of its rooms that train no network."""

    code: tuple[str, ...]
    tests: tuple[str, ...]
    sample: int | None = None
    """Number of mutants, drawn with seed 0; None tests all."""


GROUPS = {
    "evidence": Group(
        ("ssl_pipeline/labels.py", "ssl_pipeline/evaluation/*", "ssl_pipeline/pseudo_labels/*"),
        ("tests/test_labels.py", "tests/evaluation", "tests/pseudo_labels"),
    ),
    "stages": Group(
        ("ssl_pipeline/stages/*", "ssl_pipeline/runs/*", "ssl_pipeline/config/loading.py"),
        (
            *("tests/runs", "tests/config", "tests/flows/test_rounds.py", "tests/flows/test_stuck.py"),
            *(f"tests/stages/test_{name}.py" for name in ("resume", "gate", "label_sheet", "review", "launch")),
        ),
        sample=300,
    ),
}
SETTINGS = """
[tool.mutmut]
source_paths = ["ssl_pipeline"]
also_copy = ["configs", "docs", "flows", "benchmarks", "README.md"]
pytest_add_cli_args = ["-p", "no:cacheprovider", "-m", "not slow", "-p", "no:xdist"]
do_not_mutate_patterns = ['logger\\.\\w+', 'raise \\w+']
"""
"""Words of messages are not mutated: tests of messages are in tests/bad_inputs.py."""


def main(
    out: Annotated[Path, typer.Option(help="The report.")] = Path("docs/mutants.md"),
    work: Annotated[Path, typer.Option(help="Folder of the copies of the code; keeps each result.")] = Path(
        "data/mutants"
    ),
    group: Annotated[list[str] | None, typer.Option(help="One of them only.")] = None,
    report_only: Annotated[bool, typer.Option("--report-only", help="Run nothing.")] = False,
) -> None:
    """Run the mutants of all groups in one process each, and write the report."""
    results: dict[str, int | None] = {}
    changes: dict[str, str] = {}
    for name, settings in GROUPS.items():
        folder = work / name
        if not report_only and (not group or name in group):
            _run(folder, settings)
        exit_codes = _exit_codes(folder)
        chosen = _sample(exit_codes, settings)
        results |= {mutant: exit_codes[mutant] for mutant in chosen}
        changes |= _changes(folder, [mutant for mutant in chosen if STATUS.get(exit_codes[mutant]) == "survived"])
    out.write_text(report(results, changes), encoding="utf-8")


def _run(folder: Path, group: Group) -> None:
    """Copy the code, mutate it, and run the tests of each mutant that has no result yet."""
    for name in subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.splitlines():
        target = folder / name
        if Path(name).is_file() and (not target.exists() or target.read_bytes() != Path(name).read_bytes()):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, target)
    with open(folder / "pyproject.toml", "a", encoding="utf-8") as file:
        file.write(SETTINGS)
        file.write(
            f"only_mutate = {json.dumps(group.code)}\npytest_add_cli_args_test_selection = {json.dumps(group.tests)}\n"
        )
    _mutmut(folder, NOTHING)  # only lists the mutants
    _mutmut(folder, *_sample(_exit_codes(folder), group))


def _mutmut(folder: Path, *mutants: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", "1", *mutants]
    subprocess.run(command, cwd=folder, env=environment, check=False)


def _exit_codes(folder: Path) -> dict[str, int | None]:
    """Read the result of every mutant; None if it has not run."""
    codes: dict[str, int | None] = {}
    for path in sorted(folder.glob("mutants/**/*.meta")):
        codes |= json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
    return codes


def _sample(mutants: Mapping[str, int | None], group: Group) -> list[str]:
    names = sorted(mutants)
    if group.sample is None or len(names) <= group.sample:
        return names
    return sorted(random.Random(0).sample(names, group.sample))  # noqa: S311 - a sample, no secret


def _changes(folder: Path, mutants: Sequence[str]) -> dict[str, str]:
    """Describe what a mutant changes: the lines that it removes and adds."""
    changes = {}
    for mutant in mutants:
        shown = subprocess.run(
            [sys.executable, "-m", "mutmut", "show", mutant], cwd=folder, capture_output=True, text=True, check=False
        )
        lines = [line for line in shown.stdout.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
        changes[mutant] = " → ".join(line[1:].strip() for line in lines)
    return changes


def report(results: Mapping[str, int | None], changes: Mapping[str, str]) -> str:
    """Lay out the results by folder, and name the survivors, as Markdown."""
    rows = []
    folders = sorted({_folder(mutant) for mutant in results})
    for folder in folders:
        counts = Counter(STATUS.get(code, "killed") for name, code in results.items() if _folder(name) == folder)
        num_run = sum(counts.values()) - counts["not run"]
        share = f"{100 * counts['killed'] / num_run:.1f} %" if num_run else ""
        kinds = ("killed", "survived", "no tests", "not run")
        rows.append([folder, f"{sum(counts.values()):,}", *(f"{counts[kind]:,}" for kind in kinds), share])
    header = ["code", "mutants", "killed", "survived", "no tests", "not run", "killed of those that ran"]
    lines = [
        "# Mutants",
        "",
        "Written by `make mutants` (mutmut): one small change of the code each, and the tests of its rooms that train no "
        "network. Of `stages`, `runs` and `config/loading`, a sample of 300. *No tests*: none of these tests calls the "
        "function. Messages of errors and logs are not mutated.",
        "",
        *markdown_table(header, "lrrrrrr", rows),
        "",
        "## Survivors",
        "",
    ]
    for mutant in sorted(changes):
        function = mutant.partition(".x")[2].strip("_ǁ").replace("ǁ", ".").partition("__mutmut_")
        module = mutant.partition(".x")[0].removeprefix("ssl_pipeline.")
        lines.append(f"- `{module}: {function[0]} {function[2]}`: `` {changes[mutant][:240]} ``")
    return "\n".join([*lines, ""])


def _folder(mutant: str) -> str:
    parts = mutant.partition(".x")[0].split(".")[1:]
    return "/".join(parts) if parts[0] == "config" else parts[0]


if __name__ == "__main__":
    typer.run(main)
