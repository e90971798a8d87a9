"""The report in a browser: no errors, accessible, usable by keyboard; the lasso filters the galleries; names are text."""

from pathlib import Path
from typing import Any

import pytest

from ssl_pipeline.reports.run_report import render_report
from tests.browser.conftest import THEMES, WIDTHS
from tests.report_run import HOSTILE, content_of, finish_tiny_run, hostile


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Addresses of a run's report, and of the same with hostile names."""
    directory = tmp_path_factory.mktemp("report")
    config, run, summary = finish_tiny_run(directory)
    facts, faces = content_of(config, run, summary)
    options = facts.pop("options")
    path = directory / "hostile.html"
    path.write_text(render_report({**hostile(facts), "options": options}, hostile(faces)))
    return {"plain": Path(summary["report"]).as_uri(), "hostile": path.as_uri()}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("names", ["plain", "hostile"])
def test_it_opens_without_errors_scrolls_one_way_and_is_accessible(
    reports: dict[str, str], open_page: Any, serious_findings: Any, names: str, theme: str, width: str
) -> None:
    page = open_page(reports[names], theme=theme, width=WIDTHS[width])
    assert page.locator("section h2").count() == 8
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[width]
    assert serious_findings(page) == []
    page.locator(".tile").first.click()
    assert serious_findings(page) == []


def test_tabs_and_the_face_work_by_keyboard(reports: dict[str, str], open_page: Any) -> None:
    page = open_page(reports["plain"])
    page.locator("#tab-surest").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#tab-least-sure").get_attribute("aria-selected") == "true"
    assert page.evaluate("document.activeElement.id") == "tab-least-sure"
    page.locator(".tile").nth(1).focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog#face")
    assert dialog.is_visible()
    assert {"Guesses of every round", "Nearest labeled faces", "File"} <= set(dialog.locator("h3").all_inner_texts())
    first = dialog.locator("code").inner_text()
    page.keyboard.press("ArrowRight")
    assert dialog.locator("code").inner_text() != first
    page.keyboard.press("ArrowLeft")
    assert dialog.locator("code").inner_text() == first
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert page.evaluate("document.activeElement.className") == "tile"


def test_what_the_network_looked_at_can_be_shown(reports: dict[str, str], open_page: Any) -> None:
    page = open_page(reports["plain"])
    page.locator(".tile").first.click()
    button = page.locator(".heat-bar button").first
    button.click()
    assert page.locator(".stage canvas").is_visible() and button.get_attribute("aria-pressed") == "true"
    button.click()
    assert page.locator(".stage canvas").count() == 0


def test_a_lasso_filters_the_faces_and_clearing_shows_all(reports: dict[str, str], open_page: Any) -> None:
    page = open_page(reports["plain"])
    everything = int(page.locator("#tab-all .count").inner_text())
    page.locator("#points").scroll_into_view_if_needed()
    box = page.locator("#points").bounding_box()
    corners = [(0.02, 0.02), (0.5, 0.02), (0.5, 0.98), (0.02, 0.98)]
    page.mouse.move(box["x"] + corners[0][0] * box["width"], box["y"] + corners[0][1] * box["height"])
    page.mouse.down()
    for x, y in [*corners[1:], corners[0]]:
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=5)
    page.mouse.up()
    inside = page.evaluate(
        "(() => { const map = JSON.parse(document.getElementById('data').textContent).map, w = document.getElementById('points').clientWidth;"
        "return map.x.filter((x, n) => map.faces[n] >= 0 && 14 + x / 999 * (w - 28) < w / 2 && 14 + x / 999 * (w - 28) > 0.02 * w).length; })()"
    )
    shown = int(page.locator("#tab-all .count").inner_text())
    assert 0 < shown < everything and abs(shown - inside) <= 2
    assert page.locator("#tab-all").get_attribute("aria-selected") == "true"
    assert f"Only the {shown} faces selected" in page.locator("#filter").inner_text()
    page.locator("#clear").click()
    assert int(page.locator("#tab-all .count").inner_text()) == everything and not page.locator("#filter").is_visible()


def test_the_legend_selects_a_group_by_keyboard(reports: dict[str, str], open_page: Any) -> None:
    page = open_page(reports["plain"])
    page.locator("#color-by").select_option("age: decision")
    button = page.locator("#legend button", has_text="accepted")
    button.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.textContent").startswith("accepted")
    assert button.get_attribute("aria-pressed") == "true"
    accepted = page.evaluate(
        "JSON.parse(document.getElementById('data').textContent).faces.filter((f) => f.labels[1].status === 'accepted').length"
    )
    assert int(page.locator("#tab-all .count").inner_text()) == accepted > 0


def test_hostile_names_are_shown_as_text(reports: dict[str, str], open_page: Any) -> None:
    page = open_page(reports["hostile"])
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    page.locator("#tab-all").click()
    for _ in range(5):
        if page.locator("#more").is_visible():
            page.locator("#more").click()
    guesses = " ".join(page.locator(".tile .guess").all_inner_texts())
    assert HOSTILE["male"] in guesses and HOSTILE["female"] in guesses
    page.locator(".tile").first.click()
    assert "[/bold]" in page.locator("dialog#face").inner_text()
    assert page.locator("img[src='x']").count() == 0
