"""Take the pictures of Prefect's UI that the docs show, of a finished run of the demo (drawn faces only).

    make deploy
    PREFECT_API_URL=http://127.0.0.1:4200/api prefect deployment run full-cycle/local --watch
    python -m benchmarks.screenshots --ui http://127.0.0.1:4200 --out docs

Needs Chromium, and no internet.
"""

import json
import shutil
import subprocess
import tempfile
import urllib.request
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main(
    ui: Annotated[str, typer.Option(help="Where the server's UI is.")] = "http://127.0.0.1:4200",
    out: Annotated[Path, typer.Option(help="A folder.")] = Path("docs"),
) -> None:
    """Picture the newest finished cycle's page, three of its artifacts and the form of its deployment."""
    flow_run = _newest(ui, "flow_runs", {"flows": {"name": {"any_": ["full-cycle"]}}, "sort": "END_TIME_DESC"})
    deployment = _newest(ui, "deployments", {"flows": {"name": {"any_": ["full-cycle"]}}})
    pages = {
        "run": (f"runs/flow-run/{flow_run['id']}", 1000),
        "form": (f"deployments/deployment/{deployment['id']}/run", 1500),
    }
    for name, key, height in (
        ("pseudo-labels", "pseudo-labels-round-1", 1700),
        ("gate", "gate-round-1", 1900),
        ("comparison", "teacher-against-student", 1700),
    ):
        artifact = _newest(ui, "artifacts", {"artifacts": {"key": {"any_": [key]}}, "sort": "CREATED_DESC"})
        pages[name] = (f"artifacts/artifact/{artifact['id']}", height)
    out.mkdir(parents=True, exist_ok=True)
    for name, (page, height) in pages.items():
        path = out / f"prefect-{name}.png"
        _picture(f"{ui}/{page}", path, height=height)
        print(f"{path}: {path.stat().st_size // 1024} KiB")


def _newest(ui: str, what: str, query: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310 - the server that the user names
        f"{ui}/api/{what}/filter", json.dumps({**query, "limit": 1}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        found: list[dict[str, Any]] = json.loads(answer.read())
    if not found:
        raise SystemExit(f"{ui}: no {what} of a full cycle; run the deployment first")
    return found[0]


def _picture(url: str, path: Path, *, height: int) -> None:
    browser = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise SystemExit(f"needs one of {', '.join(_BROWSERS)}")
    with tempfile.TemporaryDirectory() as home:
        command = [
            browser,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--force-prefers-reduced-motion",
        ]
        command += [f"--user-data-dir={home}", f"--window-size=1280,{height}", "--virtual-time-budget=20000"]
        command += [f"--screenshot={path.absolute()}", url]
        subprocess.run(command, check=True, capture_output=True, timeout=180)
    with Image.open(path) as picture:
        picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=128).save(path, optimize=True)


if __name__ == "__main__":
    typer.run(main)
