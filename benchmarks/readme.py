"""Write the README's figures and file map from what runs and files say, so that none is typed by hand.

make demo && python -m benchmarks.readme
"""

import ast
import json
import os
import platform
from pathlib import Path

from rich.console import Console

from benchmarks.marks import fill
from ssl_pipeline.reports.comparison import comparison_table, verdict

README = Path("README.md")


def demo(summary_path: Path) -> str:
    """What the demo prints at its end."""
    summary = json.loads(summary_path.read_text(encoding="utf-8"))
    console = Console(record=True, width=78, file=open(os.devnull, "w"))  # noqa: SIM115 - nobody reads it
    console.print(comparison_table(summary))
    console.print(verdict(summary))
    counts = summary["counts"]
    console.print(f"Pseudo-labels: {counts['accepted']:,} of {counts['candidates']:,} candidates accepted", style="")
    console.print(f"Manifest:  {summary['manifest']}")
    minutes = sum(summary["seconds"].values()) / 60
    note = (
        f"`make demo`, seed {summary['seed']}, {os.cpu_count()} cores, {platform.machine()}: {minutes:.1f} minutes of "
        "work after installation. It ends with:"
    )
    return f"{note}\n\n```\n{console.export_text().rstrip()}\n```"


def results(report: Path) -> str:
    """The table of the seeds, as `benchmarks.seeds` wrote it."""
    lines = report.read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| seed"))
    end = next(number for number, line in enumerate(lines) if line.startswith("Mean difference"))
    return "\n".join([lines[2], "", *lines[start : end + 1]])


def file_map() -> str:
    """A line for each file of code: its path, and the sentence that its docstring opens with."""
    lines = []
    for folder in ("flows", "ssl_pipeline", "benchmarks"):
        for path in sorted(Path(folder).rglob("*.py")):
            docstring = " ".join((ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split())
            if path.name != "__init__.py" or folder == "flows":
                lines.append(f"{path!s:48} {docstring.split('. ')[0].rstrip('.')}")
    lines.append(f"{'configs/*.yaml':48} One run each; it opens with its purpose, data, command and what to expect")
    lines.append(f"{'tests/':48} Mirrors the above; tests/flows starts Prefect")
    return "\n".join(["```", *lines, "```"])


if __name__ == "__main__":
    fill(README, "filemap", file_map())
    if Path("data/runs/demo/summary.json").is_file():
        fill(README, "demo", demo(Path("data/runs/demo/summary.json")))
    if Path("docs/utkface.md").is_file():
        fill(README, "results", results(Path("docs/utkface.md")))
