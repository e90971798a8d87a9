"""The README's generated sections: the file map, the demo's output, the results on real faces.

make demo && python -m benchmarks.docs.readme
"""

import ast
import json
import os
import platform
from pathlib import Path

from rich.console import Console

from benchmarks.docs.marked_sections import replace_section
from ssl_pipeline.reports.comparison import comparison_table, verdict

README, RESULTS = Path("README.md"), Path("docs/utkface.md")
DEMO_SUMMARY = Path("data/runs/demo/summary.json")


def demo_section(summary_path: Path) -> str:
    """Render the last lines that the demo prints."""
    summary = json.loads(summary_path.read_text(encoding="utf-8"))
    console = Console(record=True, width=78, file=open(os.devnull, "w"))  # noqa: SIM115 - discards the output
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


def results_section(report: Path) -> str:
    """Take the first paragraph and the first table of a report by `benchmarks.seeds`."""
    lines = report.read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| seed"))
    end = next(number for number, line in enumerate(lines) if line.startswith("Mean difference"))
    return "\n".join([lines[2], "", *lines[start : end + 1]])


def file_map_section() -> str:
    """List the code files, each with the first sentence of its docstring."""
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
    replace_section(README, "filemap", file_map_section())
    if DEMO_SUMMARY.is_file():
        replace_section(README, "demo", demo_section(DEMO_SUMMARY))
    if RESULTS.is_file():
        replace_section(README, "results", results_section(RESULTS))
