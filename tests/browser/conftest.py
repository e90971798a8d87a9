"""A headless Chromium of the system for tests of pages; without one, or without Playwright, they are skipped."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

THEMES = ("light", "dark")
WIDTHS = {"desktop": 1280, "phone": 360}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "browser":
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: make setup-dev")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("needs a Chromium on the path, e.g. apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Any]:
    """A function that opens an address in a page of a theme and width; the test fails if its console shows errors."""
    errors: list[str] = []
    contexts = []

    def open_in(address: str, *, theme: str = "light", width: int = 1280, height: int = 900) -> Any:
        context = chromium.new_context(color_scheme=theme, viewport={"width": width, "height": height})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        return page

    yield open_in
    for context in contexts:
        context.close()
    assert not errors


@pytest.fixture
def serious_findings() -> Any:
    """A function that lists what axe finds serious or critical on a page."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python: make setup-dev")

    def find(page: Any) -> list[str]:
        found = axe.Axe().run(page).response["violations"]
        return [
            f"{finding['id']}: {finding['nodes'][0]['html'][:120]} ({len(finding['nodes'])} places)"
            for finding in found
            if finding["impact"] in ("serious", "critical")
        ]

    return find
