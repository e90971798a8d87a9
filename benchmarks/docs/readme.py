"""The README's generated section: the demo's output.

make demo && python -m benchmarks.docs.readme
"""

import json
import os
import platform
from pathlib import Path

from rich.console import Console

from benchmarks.docs.marked_sections import replace_section
from ssl_pipeline.reports.comparison import comparison_table, selection_sentence, verdict

README = Path("README.md")
DEMO_SUMMARY = Path("data/runs/demo/summary.json")


def demo_section(summary_path: Path) -> str:
    """Render the last lines that the demo prints."""
    summary = json.loads(summary_path.read_text(encoding="utf-8"))
    console = Console(record=True, width=78, file=open(os.devnull, "w"))  # noqa: SIM115 - discards the output
    console.print(comparison_table(summary))
    console.print(verdict(summary))
    console.print(selection_sentence(summary["counts"], summary["precision"]))
    console.print(f"Report:    {summary['report']}\nManifest:  {summary['manifest']}")
    minutes = sum(summary["seconds"].values()) / 60
    note = (
        f"`make demo`, seed {summary['seed']}, {os.cpu_count()} cores, {platform.machine()}: {minutes:.1f} minutes of "
        "work after the faces are drawn. It ends with:"
    )
    return f"{note}\n\n```\n{console.export_text().rstrip()}\n```"


if __name__ == "__main__":
    replace_section(README, "demo", demo_section(DEMO_SUMMARY))
