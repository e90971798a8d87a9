"""Screenshots of Prefect's UI for the docs, taken of a finished run of the demo (drawn faces only).

    make deploy
    PREFECT_API_URL=http://127.0.0.1:4200/api prefect deployment run full-cycle/local --watch
    python -m benchmarks.docs.screenshots --ui http://127.0.0.1:4200 --out docs

Needs Chromium, but no internet.
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
    ui: Annotated[str, typer.Option(help="URL of the server's UI.")] = "http://127.0.0.1:4200",
    out: Annotated[Path, typer.Option(help="A folder.")] = Path("docs"),
) -> None:
    """Save the pages of the newest finished cycle, of three of its artifacts, and of its deployment's form."""
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
        _take_screenshot(f"{ui}/{page}", path, height=height)
        print(f"{path}: {path.stat().st_size // 1024} KiB")


def _newest(ui: str, collection: str, query: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310 - the server that the user names
        f"{ui}/api/{collection}/filter",
        json.dumps({**query, "limit": 1}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as response:  # noqa: S310
        entries: list[dict[str, Any]] = json.loads(response.read())
    if not entries:
        raise SystemExit(f"{ui}: no {collection} of a full cycle; run the deployment first")
    return entries[0]


def _take_screenshot(url: str, path: Path, *, height: int) -> None:
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        raise SystemExit(f"no browser found; install one of {', '.join(_BROWSERS)}")
    with tempfile.TemporaryDirectory() as home:
        command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += ["--force-prefers-reduced-motion"]
        command += [f"--user-data-dir={home}", f"--window-size=1280,{height}", "--virtual-time-budget=20000"]
        command += [f"--screenshot={path.absolute()}", url]
        subprocess.run(command, check=True, capture_output=True, timeout=180)
    with Image.open(path) as image:
        image.convert("P", palette=Image.Palette.ADAPTIVE, colors=128).save(path, optimize=True)


if __name__ == "__main__":
    typer.run(main)
