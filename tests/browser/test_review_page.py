"""The review page in a browser: keyboard, filters, lasso, undo, reload, two tabs, a server that is gone, accessibility."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import uvicorn

from ssl_pipeline.review.serve import guarded_app, open_review
from ssl_pipeline.review.similar import arrange
from ssl_pipeline.runs.answers import read_answers, verdicts
from ssl_pipeline.runs.directory import RunDir
from tests.browser.conftest import THEMES, WIDTHS
from tests.review.conftest import HOSTILE, LABELS, TOKEN, run, run_template  # noqa: F401 - fixtures

expect = pytest.importorskip("playwright.sync_api", reason="needs Playwright: make setup-dev").expect

Open = Callable[..., Any]
WEAR = LABELS.attributes[0].values[0]


# A page is closed before its server: the fixture `address` comes before `open_page`.
@contextmanager
def serving(run: RunDir, *, port: int = 0, **options: Any) -> Iterator[str]:  # noqa: F811
    """Serve a run in a thread; yields the page's address."""
    review = open_review(run, **options)
    rows = np.sort(np.r_[0:200, 500:540])
    rng = np.random.default_rng(0)
    review.similar.result = arrange(rng.standard_normal((len(rows), 8)).astype(np.float32), rows, review.faces)
    review.similar.state = "ready"
    with socket.create_server(("127.0.0.1", port)) as listener:
        port = listener.getsockname()[1]
        app = guarded_app(review, token=TOKEN, host="127.0.0.1", port=port)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}/?token={TOKEN}"
        server.should_exit = server.force_exit = True
        thread.join()


@pytest.fixture
def address(run: RunDir) -> Iterator[str]:  # noqa: F811
    with serving(run, reviewer="ann") as address:
        yield address


def open_single(open_page: Open, address: str, **options: Any) -> Any:
    page = open_page(address, **options)
    page.wait_for_selector(".tile")
    page.keyboard.press("g")
    page.wait_for_selector("#face[src]")
    return page


def saved(page: Any) -> None:
    page.wait_for_selector("#unsaved", state="hidden")


def at(page: Any, number: int) -> None:
    """Wait until the page shows the face with this number in the list."""
    expect(page.locator("#place")).to_have_text(re.compile(rf"^{number} of "))


def progress(page: Any, pattern: str) -> None:
    expect(page.locator("#progress-text")).to_have_text(re.compile(pattern), timeout=8000)


def test_fifty_faces_are_reviewed_by_keyboard_alone(address: str, open_page: Open, run: RunDir) -> None:  # noqa: F811
    page = open_single(open_page, address)
    keys = ["Enter", "a", "x", "r", "1", "2", "3", " "]
    seen = []
    for number in range(50):
        seen.append(page.inner_text("#face-id"))
        page.keyboard.press(keys[number % len(keys)])
        at(page, number + 2)
    saved(page)
    answers = {answer.image_id.replace("\n", " "): answer for answer in read_answers(run.answers)}
    assert len(answers) == len(set(seen)) == 50
    decisions = ["label", "label", "reject", "reject", "label", "label", "label", "unsure"]
    assert [answers[name].decision for name in seen] == [decisions[number % 8] for number in range(50)]
    assert all(answers[name].value == answers[name].guess for name in seen[0::8])
    assert [answers[name].value for name in seen[4::8]] == [WEAR] * len(seen[4::8])
    progress(page, "^50 of 540")
    assert page.url.partition("#")[0].endswith("/") and "token" not in page.url


def test_arrows_move_and_never_decide(address: str, open_page: Open, run: RunDir) -> None:  # noqa: F811
    page = open_single(open_page, address)
    for key, expected in [("ArrowRight", 2), ("ArrowDown", 3), ("ArrowLeft", 2), ("ArrowUp", 1), ("ArrowUp", 1)]:
        page.keyboard.press(key)
        at(page, expected)
    page.keyboard.press("Tab")
    expect(page.locator("#attributes [aria-pressed=true]")).to_have_text("gender")
    assert not run.answers.exists()


def test_undo_redo_and_repeat(address: str, open_page: Open, run: RunDir) -> None:  # noqa: F811
    page = open_single(open_page, address)
    first = page.inner_text("#face-id")
    page.keyboard.press("3")
    at(page, 2)
    page.keyboard.press("u")
    at(page, 1)
    saved(page)
    assert verdicts(read_answers(run.answers)) == {}
    page.keyboard.press("Shift+U")
    saved(page)
    (verdict,) = verdicts(read_answers(run.answers)).values()
    assert (verdict.image_id, verdict.value) == (first, "normal")
    page.keyboard.press("n")
    at(page, 2)
    page.keyboard.press(".")
    at(page, 3)
    saved(page)
    assert [one.value for one in verdicts(read_answers(run.answers)).values()] == ["normal", "normal"]


def test_keys_sleep_while_one_types(address: str, open_page: Open, run: RunDir) -> None:  # noqa: F811
    page = open_single(open_page, address)
    page.keyboard.press("/")
    page.wait_for_selector("#search:focus")
    page.keyboard.type("pool:0003 xa1u?")
    assert page.input_value("#search") == "pool:0003 xa1u?"
    assert not page.is_visible("#keys")
    page.fill("#search", "0003.jpg")
    page.keyboard.press("Enter")
    expect(page.locator("#place")).to_have_text("1 of 1")
    assert page.inner_text("#face-id") == "pool:0003.jpg"
    assert not run.answers.exists()


def test_the_grid_is_reviewed_by_keyboard_and_a_selection_at_once(address: str, open_page: Open, run: RunDir) -> None:  # noqa: F811
    page = open_page(address)
    page.wait_for_selector(".tile")
    for key in ("Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowRight"):
        page.keyboard.press(key)
    assert page.locator(".tile[aria-selected=true]").count() == 4
    page.keyboard.press("x")
    page.wait_for_selector("#tile-4.current")
    saved(page)
    assert [answer.decision for answer in read_answers(run.answers)] == ["reject"] * 4
    page.keyboard.press("u")
    saved(page)
    assert verdicts(read_answers(run.answers)) == {}


def test_filters_leave_what_matches_and_stay_over_a_reload(address: str, open_page: Open) -> None:
    page = open_page(address)
    page.wait_for_selector(".tile")
    page.keyboard.press("f")
    page.wait_for_selector("select[data-key='value.mask'] option:nth-child(2)", state="attached")
    page.select_option("select[data-key='value.mask']", "normal")
    page.select_option("select[data-key=status]", "accepted")
    expect(page.locator("#chips button")).to_have_count(2)
    root = address.partition("?")[0]
    total = page.request.get(f"{root}api/faces?value.mask=normal&status=accepted").json()["total"]
    progress(page, f"{total} in the list")
    page.wait_for_selector(".tile")
    guesses = set(page.locator(".tile .guess").all_inner_texts())
    assert guesses == {"normal"}
    listed = page.inner_text("#progress-text")
    page.reload()
    page.wait_for_selector(".tile")
    progress(page, re.escape(listed))
    page.click("#chips button >> nth=0")
    expect(page.locator("#chips button")).to_have_count(1)


def test_a_lasso_on_the_map_filters_the_grid(address: str, open_page: Open) -> None:
    page = open_page(address)
    page.wait_for_selector(".tile")
    page.keyboard.press("m")
    page.wait_for_selector("#map-legend button")
    box = page.locator("#map-canvas").bounding_box()
    corners = [(0.05, 0.05), (0.5, 0.05), (0.5, 0.95), (0.05, 0.95)]
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=5)
    page.mouse.up()
    page.wait_for_selector("#chips button")
    chip = page.inner_text("#chips")
    number = int(chip.split(":")[1].split()[0])
    assert 10 < number < 230
    progress(page, f"{number} in the list")
    page.click("#chips button")
    expect(page.locator("#progress-text")).not_to_contain_text("in the list")


def test_a_reload_in_the_middle_loses_nothing_and_goes_on_at_the_next_face(
    address: str,
    open_page: Open,
    run: RunDir,  # noqa: F811
) -> None:
    page = open_single(open_page, address)
    for number in range(5):
        page.keyboard.press("1")
        at(page, number + 2)
    page.reload()
    at(page, 6)
    saved(page)
    assert len(verdicts(read_answers(run.answers))) == 5
    page.keyboard.press("u")  # also what was done before the reload
    at(page, 5)
    saved(page)
    assert len(verdicts(read_answers(run.answers))) == 4


def test_two_tabs_see_each_others_votes_within_seconds(address: str, open_page: Open, run: RunDir) -> None:  # noqa: F811
    one, two = open_single(open_page, address), open_page(address)
    two.wait_for_selector(".tile")
    two.evaluate("localStorage.setItem('ssl-review:reviewer', 'bob')")
    one.keyboard.press("1")
    two.wait_for_selector("#tile-0.accepted, #tile-0.corrected", timeout=8000)
    assert len(read_answers(run.answers)) == 1


def test_reviewers_who_differ_are_marked(open_page: Open, run: RunDir) -> None:  # noqa: F811
    with serving(run, reviewer="ann") as first, serving(run, reviewer="bob") as second:
        one, two = open_single(open_page, first), open_single(open_page, second)
        one.keyboard.press("1")
        two.keyboard.press("3")
        saved(one)
        saved(two)
        one.keyboard.press("g")
        one.wait_for_selector("#tile-0.disputed", timeout=8000)
        one.close()
        two.close()


def test_answers_wait_for_a_server_that_is_gone_and_are_sent_once(open_page: Open, run: RunDir, chromium: Any) -> None:  # noqa: F811
    with serving(run, reviewer="ann") as address:
        context = chromium.new_context()  # its console shows the refused connections, as it should
        page = context.new_page()
        page.goto(address)
        page.wait_for_selector(".tile")
        port = int(address.split(":")[2].split("/")[0])
    page.keyboard.press("x")
    page.keyboard.press("x")
    page.wait_for_selector("#unsaved.lost")
    assert page.inner_text("#unsaved") == "2 unsaved, kept here: no answer from the server"
    assert not run.answers.exists()
    with serving(run, reviewer="ann", port=port):
        page.wait_for_selector("#unsaved", state="hidden", timeout=15000)
    context.close()
    assert [answer.decision for answer in read_answers(run.answers)] == ["reject", "reject"]


def test_an_audit_hides_the_guess_and_shows_the_precision_so_far(open_page: Open, run: RunDir) -> None:  # noqa: F811
    with serving(run, reviewer="ann", queue="audit", num=12) as address:
        page = open_page(address)
        page.wait_for_selector("#face[src]")
        assert "What do you see?" in page.inner_text("#panel")
        assert page.is_disabled("[data-do=accept]") and not page.is_visible("#to-map")
        page.keyboard.press("a")
        page.keyboard.press("Enter")
        assert not run.answers.exists()
        for number in range(12):
            page.keyboard.press("1")
            progress(page, f"^{number + 1} of 12")
        progress(page, r"precision so far \d+")
        page.close()
    assert all(answer.is_audit for answer in read_answers(run.answers))


def test_the_name_is_asked_once(open_page: Open, run: RunDir) -> None:  # noqa: F811
    with serving(run) as address:
        page = open_page(address)
        page.wait_for_selector("#ask-name[open]")
        page.fill("#name-input", "이름 <b>")
        page.keyboard.press("Enter")
        page.wait_for_selector(".tile")
        assert page.inner_text("#name") == "이름 <b>"
        page.keyboard.press("x")
        saved(page)
        page.reload()
        page.wait_for_selector(".tile")
        assert page.inner_text("#name") == "이름 <b>" and not page.is_visible("#ask-name")
        page.close()
    assert read_answers(run.answers)[0].reviewer == "이름 <b>"


def test_hostile_names_and_labels_are_shown_as_text(address: str, open_page: Open) -> None:
    page = open_single(open_page, address)
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    for name in HOSTILE:
        page.keyboard.press("/")
        page.fill("#search", name.splitlines()[0])
        page.keyboard.press("Enter")
        expect(page.locator("#face-id")).to_have_text(f"pool:{name}")
        page.wait_for_selector(".reason")
        page.keyboard.press("Escape")
    assert page.locator("#values bdi").all_inner_texts() == list(LABELS.attributes[0].values)
    assert page.locator("main script, main b:not([aria-hidden])").count() == 0


def test_only_tiles_in_sight_are_in_the_document(address: str, open_page: Open) -> None:
    page = open_page(address)
    page.wait_for_selector(".tile")
    for _ in range(300):
        page.keyboard.press("ArrowDown")
        if int(page.get_attribute(".tile.current", "data-index")) >= 400:  # pages come as one moves on
            break
    assert int(page.get_attribute(".tile.current", "data-index")) >= 400
    assert page.locator(".tile").count() < 120


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_nothing_serious_and_nothing_is_wider_than_the_page(
    address: str, open_page: Open, serious_findings: Callable[[Any], list[str]], theme: str, width: str
) -> None:
    page = open_page(address, theme=theme, width=WIDTHS[width], height=740)
    page.wait_for_selector(".tile")
    for keys in ([], ["Shift+ArrowRight", "x"], ["f"], ["f", "m"], ["m", "g"], ["2", "ArrowLeft"], ["?"]):
        for key in keys:
            page.keyboard.press(key)
        page.wait_for_timeout(400)
        assert serious_findings(page) == [], keys
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), keys


def test_the_page_needs_nothing_from_elsewhere(address: str, open_page: Open) -> None:
    page = open_page("about:blank")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.wait_for_selector(".tile")
    assert asked and all(url.startswith((address.partition("/?")[0], "data:")) for url in asked)
