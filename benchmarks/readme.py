"""Write the README's figures from what runs left behind, so that none is typed by hand.

make demo && python -m benchmarks.readme
"""

import json
import os
import platform
from pathlib import Path

from rich.console import Console

from ssl_pipeline.reports.comparison import comparison_table, verdict

README = Path("README.md")


def fill(name: str, text: str) -> None:
    """Replace what stands between a pair of markers."""
    before, _, rest = README.read_text(encoding="utf-8").partition(f"<!-- {name}:begin -->")
    after = rest.partition(f"<!-- {name}:end -->")[2]
    README.write_text(f"{before}<!-- {name}:begin -->\n{text}\n<!-- {name}:end -->{after}", encoding="utf-8")


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


if __name__ == "__main__":
    fill("demo", demo(Path("data/runs/demo/summary.json")))
    if Path("docs/utkface.md").is_file():
        fill("results", results(Path("docs/utkface.md")))
