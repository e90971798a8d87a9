"""The report as one HTML file: template, style and scripts of the folder ``page``, behind a content-security policy."""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ssl_pipeline.points import signed
from ssl_pipeline.reports import report_parts as parts

_PAGE = Path(__file__).parent / "page"

GALLERIES = {
    "surest": ("Surest", "Accepted labels with the highest confidence, the surest of each class in turn."),
    "least-sure": ("Least sure, accepted", "Accepted labels just above their threshold: the first to look at."),
    "just-rejected": ("Just rejected", "Labels just below their threshold: what a lower one would let in."),
    "odd": ("Odd", "Copies of one picture, then faces farthest from all labeled faces."),
    "changed": ("Changed by the student", "Faces to which the student gives another value than its teacher did."),
    "wrong": ("Accepted and wrong", "Accepted labels that differ from those the run hid, the surest first."),
    "label-errors": (
        "Suspicious human labels",
        "Human labels that the models find least likely, the most suspicious first.",
    ),
}


def render_report(facts: Mapping[str, Any], faces: Mapping[str, Any]) -> str:
    """Render the page; equal input gives equal text.

    Args:
        facts: of `stages.report`.
        faces: of `stages.report_faces`.
    """
    environment = Environment(
        loader=FileSystemLoader(_PAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"share": _share, "signed": _signed, "breakable": _breakable}
    galleries = [
        {"key": own["key"], "title": GALLERIES[own["key"]][0], "lead": GALLERIES[own["key"]][1], "faces": own["faces"]}
        for own in faces["galleries"]
    ]
    style = _read("report.css")
    script = f"{_read('map.js')}\n{_read('report.js')}"
    title, full = parts.headline(facts)
    return environment.get_template("report.html.j2").render(
        facts=facts,
        parts=parts,
        headline=title,
        verdict=full,
        map=faces["map"],
        num_pictures=sum(face["picture"] is not None for face in faces["faces"]),
        galleries=galleries,
        policy=_policy(style, script),
        style=Markup(style),  # noqa: S704 - files of this package
        script=Markup(script),  # noqa: S704
        data=_data({**faces, "galleries": galleries}),
    )


def _read(name: str) -> str:
    return (_PAGE / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Allow this style and this script, and pictures in the file; nothing from anywhere else."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _data(content: Mapping[str, Any]) -> Markup:
    """Write JSON that no text in it can end: no angle brackets, no line separators."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - escaped above


def _share(value: float, low: float = 0.0, high: float = 100.0) -> str:
    """Return a position on an axis as a percentage for SVG."""
    return f"{100 * min(max((value - low) / (high - low), 0.0), 1.0):.2f}%"


def _signed(number: float) -> str:
    return signed(number).replace("-", "−")


def _breakable(name: str) -> Markup:
    """Let the name of a class break after its slashes."""
    return Markup("/<wbr>").join(name.split("/"))
