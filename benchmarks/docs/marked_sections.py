"""Replace a marked section of a Markdown file."""

from pathlib import Path


def replace_section(path: Path, name: str, text: str) -> None:
    """Replace the text between ``<!-- name:begin -->`` and ``<!-- name:end -->``."""
    before, _, rest = path.read_text(encoding="utf-8").partition(f"<!-- {name}:begin -->")
    after = rest.partition(f"<!-- {name}:end -->")[2]
    path.write_text(f"{before}<!-- {name}:begin -->\n{text}\n<!-- {name}:end -->{after}", encoding="utf-8")
