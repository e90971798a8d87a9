"""Texts that commands write between a pair of marks in a Markdown file."""

from pathlib import Path


def fill(path: Path, name: str, text: str) -> None:
    """Replace what stands between ``<!-- name:begin -->`` and ``<!-- name:end -->``."""
    before, _, rest = path.read_text(encoding="utf-8").partition(f"<!-- {name}:begin -->")
    after = rest.partition(f"<!-- {name}:end -->")[2]
    path.write_text(f"{before}<!-- {name}:begin -->\n{text}\n<!-- {name}:end -->{after}", encoding="utf-8")
