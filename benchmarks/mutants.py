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
from collections.abc import Iterable, Mapping, Sequence
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
pytest_add_cli_args = ["-p", "no:cacheprovider", "-m", "not slow and not browser", "-p", "no:xdist"]
do_not_mutate_patterns = ['logger\\.\\w+', 'raise \\w+']
"""
"""Words of messages are not mutated: tests of messages are in tests/bad_inputs.py."""


def main(
    out: Annotated[Path, typer.Option(help="The report.")] = Path("docs/mutants.md"),
    work: Annotated[Path, typer.Option(help="Folder of the copies of the code; keeps each result.")] = Path(
        "data/mutants"
    ),
    group: Annotated[list[str] | None, typer.Option(help="One of them only.")] = None,
    sample: Annotated[int | None, typer.Option(help="Run this many mutants of each folder, drawn with seed 0.")] = None,
    report_only: Annotated[bool, typer.Option("--report-only", help="Run nothing.")] = False,
) -> None:
    """Run the mutants of all groups in one process each, and write the report."""
    results: dict[str, int | None] = {}
    changes: dict[str, str] = {}
    totals: Counter[str] = Counter()
    absent: list[str] = []
    for name, settings in GROUPS.items():
        folder = work / name
        if not report_only and (not group or name in group):
            _run(folder, settings, sample)
        exit_codes = _exit_codes(folder)
        absent += () if exit_codes else settings.code
        totals.update(_folder(mutant) for mutant in exit_codes)
        chosen = _sample(exit_codes, settings, sample)
        results |= {mutant: exit_codes[mutant] for mutant in chosen}
        changes |= _changes(folder, [mutant for mutant in chosen if STATUS.get(exit_codes[mutant]) == "survived"])
    out.write_text(report(results, changes, totals, absent), encoding="utf-8")


def _run(folder: Path, group: Group, sample: int | None) -> None:
    """Copy the code, mutate it, and run the tests of each mutant that was not killed before.

    mutmut keeps the results of functions that did not change; a mutant that older tests killed is not run again.
    """
    for name in subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.splitlines():
        target = folder / name
        if Path(name).is_file() and (not target.exists() or target.read_bytes() != Path(name).read_bytes()):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, target)
            (folder / "mutants" / name).unlink(missing_ok=True)  # mutmut would keep the older copy
    with open(folder / "pyproject.toml", "a", encoding="utf-8") as file:
        file.write(SETTINGS)
        file.write(
            f"only_mutate = {json.dumps(group.code)}\npytest_add_cli_args_test_selection = {json.dumps(group.tests)}\n"
        )
    _mutmut(folder, NOTHING)  # only lists the mutants
    exit_codes = _exit_codes(folder)
    chosen = _sample(exit_codes, group, sample)
    _mutmut(folder, *(name for name in chosen if exit_codes[name] in STATUS))


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


def _sample(mutants: Iterable[str], group: Group, sample: int | None) -> list[str]:
    """Draw the group's mutants, and of these at most `sample` of each folder."""
    by_folder: dict[str, list[str]] = {}
    for name in _draw(sorted(mutants), group.sample):
        by_folder.setdefault(_folder(name), []).append(name)
    return [name for names in by_folder.values() for name in _draw(names, sample)]


def _draw(names: Sequence[str], number: int | None) -> list[str]:
    if number is None or len(names) <= number:
        return list(names)
    return sorted(random.Random(0).sample(names, number))  # noqa: S311 - a sample, no secret


def _changes(folder: Path, mutants: Sequence[str]) -> dict[str, str]:
    """Describe what a mutant changes: the lines that it removes and adds."""
    changes = {}
    for mutant in mutants:
        shown = subprocess.run(
            [sys.executable, "-m", "mutmut", "show", mutant], cwd=folder, capture_output=True, text=True, check=False
        )
        lines = [line for line in shown.stdout.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
        before, after = (" ".join(line[1:] for line in lines if line[0] == sign) for sign in "-+")
        changes[mutant] = _difference(before, after)
    return changes


def report(
    results: Mapping[str, int | None], changes: Mapping[str, str], totals: Mapping[str, int], absent: Sequence[str]
) -> str:
    """Lay out the results by folder, and name the survivors by module and function, as Markdown."""
    rows, kinds = [], ("killed", "survived", "no tests", "not run")
    for folder in sorted(totals):
        counts = Counter(STATUS.get(code, "killed") for name, code in results.items() if _folder(name) == folder)
        num_run = sum(counts.values()) - counts["not run"]
        share = f"{100 * counts['killed'] / num_run:.1f} %" if num_run else ""
        numbers = (totals[folder], sum(counts.values()), *(counts[kind] for kind in kinds))
        rows.append([folder, *(f"{number:,}" for number in numbers), share])
    header = ["code", "mutants", "drawn", *kinds, "killed of those that ran"]
    lines = [
        "# Mutants",
        "",
        "Written by `make mutants` (mutmut): one small change of the code each, and the tests of its rooms that train no "
        "network. *Drawn*: with seed 0; the others were not run. *No tests*: none of these tests calls the function; "
        "counted as not killed. The fastest run first, so while some drawn ones have not run, the share is not one of all. "
        "Messages of errors and logs are not mutated.",
        "",
        *markdown_table(header, "lrrrrrrr", rows),
        *(["", f"Nothing has run of {', '.join(f'`{code}`' for code in absent)}."] if absent else []),
        "",
        "## Survivors",
        "",
        "By function: the number of the mutant (`mutmut show`), and what it changes.",
        "",
    ]
    modules: dict[str, dict[str, list[str]]] = {}
    for mutant in sorted(changes):
        module, _, rest = mutant.removeprefix("ssl_pipeline.").partition(".x")
        function, _, number = rest.strip("_ǁ").replace("ǁ", ".").partition("__mutmut_")
        functions = modules.setdefault(module, {})
        functions.setdefault(function, []).append(f"{number} `` {changes[mutant][:80]} ``")
    for module, functions in modules.items():
        described = "; ".join(f"`{name}` {', '.join(texts)}" for name, texts in functions.items())
        lines.append(f"- `{module}`: {described}")
    return "\n".join([*lines, ""])


def _difference(before: str, after: str) -> str:
    """Shorten two lines to the words in which they differ."""
    old, new = before.split(), after.split()
    while old and new and old[0] == new[0]:
        old, new = old[1:], new[1:]
    while old and new and old[-1] == new[-1]:
        old, new = old[:-1], new[:-1]
    return f"{' '.join(old)} → {' '.join(new)}"


def _folder(mutant: str) -> str:
    parts = mutant.partition(".x")[0].split(".")[1:]
    return "/".join(parts) if parts[0] == "config" else parts[0]


if __name__ == "__main__":
    typer.run(main)
