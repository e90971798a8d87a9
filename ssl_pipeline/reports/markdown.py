"""Escaping of data in Markdown and HTML pages."""

import re


def markdown_safe(text: str) -> str:
    """Escape names, values and reasons, e.g. ``<30``, ``a|b`` or ``*``, for Markdown tables and HTML."""
    text = re.sub(r"([\\`*\[\]|~])", r"\\\1", " ".join(text.split()))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def markdown_code(text: object) -> str:
    """Quote a path or command as code, with more backticks than it has in a row.

    >>> markdown_code("runs/a`b")
    '``runs/a`b``'
    """
    line = " ".join(str(text).split())
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    padding = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{padding}{line}{padding}{fence}"
