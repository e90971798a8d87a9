"""The review page's server: who may ask, what is listed, and what becomes of answers."""

import io
import itertools
import json
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from starlette.testclient import TestClient

from ssl_pipeline.errors import ConfigError, ManifestError, RunError
from ssl_pipeline.pseudo_labels.manifest import read_manifest
from ssl_pipeline.review.serve import open_review, serve
from ssl_pipeline.runs.answers import append_answers, read_answers, verdicts
from ssl_pipeline.runs.directory import RunDir
from tests.review.conftest import HOSTILE, LABELS, PORT, TOKEN, sent
from tests.runs.test_answers import answer

PATHS = ["/", "/static/main.js", "/static/map.js", "/api/session", "/api/faces", "/api/face/0", "/api/map"]


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_told_without_the_token(run: RunDir, client_of: Any, path: str) -> None:
    client = client_of(open_review(run), with_token=False)
    assert client.get(path).status_code == 401
    assert client.get(path, params={"token": "wrong"}).status_code == 401
    client.cookies.set(f"ssl_review_{PORT}", "wrong")
    assert client.get(path).status_code == 401


def test_the_token_is_exchanged_for_a_cookie_that_scripts_and_other_sites_cannot_use(client: TestClient) -> None:
    cookie = client.get(f"/?token={TOKEN}").headers["set-cookie"]
    assert cookie.startswith(f"ssl_review_{PORT}={TOKEN};") and "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert all(client.get(path).status_code == 200 for path in PATHS)
    assert "set-cookie" not in client.get("/api/session").headers


def test_a_page_of_another_site_gets_nothing(client: TestClient) -> None:
    for host in (
        "evil.example",
        "evil.example:8123",
        "127.0.0.1",
        f"127.0.0.1:{PORT + 1}",
        f"127.0.0.1:{PORT}.evil.example",
    ):
        assert client.get("/api/session", headers={"host": host}).status_code == 421
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{PORT + 1}", f"https://127.0.0.1:{PORT}"):
        assert client.post("/api/answers", json=[sent(0)], headers={"origin": origin}).status_code == 403
    assert (
        client.post("/api/answers", json=[sent(0)], headers={"origin": f"http://localhost:{PORT}"}).status_code == 200
    )
    assert client.get("/api/session", headers={"host": f"localhost:{PORT}"}).status_code == 200


def test_only_json_of_bounded_size_is_taken(client: TestClient, run: RunDir) -> None:
    body = json.dumps([sent(0)])
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        assert client.post("/api/answers", content=body, headers={"content-type": kind}).status_code == 415
    assert client.post("/api/selection", json=[10**6] * 200_000).status_code == 413
    assert not run.answers.exists()


def test_every_answer_of_the_server_has_the_headers(client: TestClient) -> None:
    for path in (*PATHS, "/nothing"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"


def test_the_page_needs_no_inline_script_and_no_inline_style() -> None:
    page = Path(__file__).parents[2] / "ssl_pipeline/review/page"
    html = (page / "index.html").read_text()
    assert not re.findall(r"<script(?![^>]*src=)|\son\w+=|style=|https?://", html)
    for script in page.glob("*.js"):
        assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|eval\(|document\.write", script.read_text()), (
            script
        )


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2f..%2fcli/main.py",
        "/faces/../../run.json",
        "/static/%2fetc/passwd",
    ],
)
def test_no_path_outside_the_page_is_readable(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_pictures_are_by_row_and_of_these_faces_only(client: TestClient, run: RunDir) -> None:
    address = client.get("/api/session").json()["picture"]
    row = next(item for item in pages(client) if item["id"] == "pool:0003.jpg")["row"]
    reply = client.get(f"/{address}/{row}/small")
    assert reply.headers["content-type"] == "image/webp" and "immutable" in reply.headers["cache-control"]
    image = np.asarray(Image.open(io.BytesIO(reply.content)).convert("RGB"), dtype=int)
    faces = open_review(run).faces
    expected = np.load(run.faces / "pixels.npy", mmap_mode="r")[60 + faces.image_ids.index("pool:0003.jpg").as_py()]
    others = [np.abs(image - np.asarray(faces.pixels[other], dtype=int)).mean() for other in range(0, 500, 50)]
    assert np.abs(image - expected).mean() < 0.7 * min(others)
    for wrong in (
        f"/{address}/100000/small",
        "/faces/000000000000/3/small",
        f"/{address}/{row}/huge",
        f"/{address}/-1/small",
    ):
        assert client.get(wrong).status_code == 404


def pages(client: TestClient, **query: Any) -> list[dict[str, Any]]:
    """All items of a list, page by page."""
    items, after = [], -1
    while after is not None:
        page = client.get("/api/faces", params={**query, "after": after}).raise_for_status().json()
        assert len(page["items"]) <= 200
        items, after = items + page["items"], page["after"]
    assert len(items) == page["total"]
    return items


@pytest.mark.parametrize("sort", ["queue", "unsure", "sure", "image_id"])
def test_pages_are_complete_without_repeats_and_in_order(client: TestClient, run: RunDir, sort: str) -> None:
    items = pages(client, sort=sort)
    assert sorted(item["row"] for item in items) == list(range(540))  # 500 of the pool, 40 labeled ones not for testing
    confidences = [item["labels"]["mask"]["confidence"] for item in items if item["labels"]["mask"]["confidence"]]
    if sort in ("unsure", "sure"):
        assert confidences == sorted(confidences, reverse=sort == "sure") and len(confidences) == 500
        assert [item["labels"]["mask"]["status"] for item in items[500:]] == ["labeled"] * 40
    if sort == "image_id":
        ids = [item["id"] for item in items]
        assert ids == sorted(ids, key=str.encode)
    manifest = read_manifest(run.pseudo_labels(1) / "manifest.parquet").faces.set_index("image_id")
    for item in items[:500:37]:
        if item["id"] in manifest.index:
            assert item["labels"]["mask"]["guess"] == manifest.loc[item["id"], "mask"]
            assert item["labels"]["gender"]["status"] == manifest.loc[item["id"], "gender_status"]


def test_a_page_stays_where_it_is_while_answers_change_the_list(client: TestClient) -> None:
    first = client.get("/api/faces", params={"progress": "undecided", "sort": "unsure"}).json()
    client.post("/api/answers", json=[sent(item["row"], number=1) for item in first["items"][::2]])
    rest, after = [], first["after"]
    while after is not None:
        page = client.get("/api/faces", params={"progress": "undecided", "sort": "unsure", "after": after}).json()
        rest, after = rest + page["items"], page["after"]
    rows = [item["row"] for item in first["items"] + rest]
    assert sorted(rows) == list(range(540))


def test_filters_match_what_the_manifest_says_and_counts_match_the_filters(client: TestClient, run: RunDir) -> None:
    faces = read_manifest(run.pseudo_labels(1) / "manifest.parquet").faces
    wear = LABELS.attributes[0].values[0]
    query = {"value.mask": wear, "status": "rejected", "lower": 0.5, "upper": 0.65, "origin": "south"}
    counts = client.get("/api/counts", params=query).json()
    found = {item["id"] for item in pages(client, **query)}
    expected = faces[
        (faces["mask"] == wear) & (faces["mask_status"] == "rejected") & faces["mask_confidence"].between(0.5, 0.65)
    ]
    south = {face["id"] for face in pages(client, origin="south")}
    assert found == set(expected["image_id"]) & south and found
    assert counts["status"].get("rejected") == counts["value.mask"][wear] == counts["origin"]["south"] == len(found)
    for key, options in counts.items():
        for option, number in itertools.islice(options.items(), 3):
            others = {name: value for name, value in query.items() if name != key}
            assert len(pages(client, **others, **{key: option})) == number, (key, option)
    assert [item["id"] for item in pages(client, search="SCRIPT")] == [f"pool:{HOSTILE[0]}"]
    assert pages(client, reason="confidence < 0.7", status="rejected") and not pages(client, reason="none such")


@pytest.mark.parametrize(
    "query",
    [
        {"sort": "x"},
        {"status": "x"},
        {"attribute": "x"},
        {"value.x": "y"},
        {"x": "y"},
        {"after": "x"},
        {"selection": "x"},
        {"progress": "x"},
    ],
)
def test_an_undefined_query_is_refused_in_words(client: TestClient, query: dict[str, str]) -> None:
    reply = client.get("/api/faces", params=query)
    assert reply.status_code == 400 and reply.json()["error"]


def test_hostile_names_are_values_of_json(client: TestClient) -> None:
    reply = client.get("/api/faces", params={"sort": "image_id"})
    assert reply.headers["content-type"] == "application/json"
    ids = {item["id"] for item in pages(client)}
    assert {f"pool:{name}" for name in HOSTILE} <= ids
    row = next(item["row"] for item in pages(client) if item["id"].endswith("passwd"))
    assert client.get(f"/api/face/{row}").json()["id"] == "pool:../../etc/passwd"


def test_a_face_tells_its_reason_and_its_probabilities(client: TestClient, run: RunDir) -> None:
    manifest = read_manifest(run.pseudo_labels(1) / "manifest.parquet")
    row = 17
    face = client.get(f"/api/face/{row}").json()
    position = manifest.faces.index[manifest.faces["image_id"] == face["id"]][0]
    expected = LABELS.attribute_probabilities(manifest.probabilities[[position]])[0][0]
    assert [value for value, _ in face["labels"]["mask"]["probabilities"]] == list(LABELS.attributes[0].values)
    assert [share for _, share in face["labels"]["mask"]["probabilities"]] == pytest.approx(expected, abs=1e-4)
    assert face["labels"]["mask"]["reason"] == manifest.faces.loc[position, "mask_reason"]
    assert face["labels"]["mask"]["threshold"] == 0.7
    labeled = client.get("/api/face/520").json()
    assert labeled["source"] == "mine" and labeled["labels"]["mask"]["probabilities"] == []
    assert client.get("/api/face/540").status_code == 404


def test_an_answer_is_in_the_file_with_all_that_was_shown(client: TestClient, run: RunDir) -> None:
    reply = client.post("/api/answers", json=[sent(5, value="normal")]).json()
    (kept,) = read_answers(run.answers)
    item = next(item for item in pages(client) if item["row"] == 5)
    assert reply["saved"] == [kept.id]
    assert (kept.image_id, kept.value, kept.reviewer, kept.queue, kept.is_audit) == (
        item["id"],
        "normal",
        "ann",
        "all",
        False,
    )
    assert (kept.guess, round(kept.confidence or 0, 4)) == (
        item["labels"]["mask"]["guess"],
        item["labels"]["mask"]["confidence"],
    )
    assert item["labels"]["mask"]["state"] == "labeled" and item["labels"]["mask"]["num_votes"] == 1


def test_an_answer_that_is_sent_again_counts_once(client: TestClient, run: RunDir) -> None:
    for _ in range(3):
        assert client.post("/api/answers", json=[sent(5), sent(6)]).json()["saved"] == [sent(5)["id"], sent(6)["id"]]
    assert len(run.answers.read_text().splitlines()) == 2
    assert open_review(run).votes.version == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"row": 540},
        {"row": -1},
        {"attribute": "age"},
        {"value": "x"},
        {"value": None},
        {"decision": "delete"},
        {"reviewer": ""},
        {"time": "yesterday"},
        {"id": "../x"},
        {"queue": "audit-1"},
        {"image_id": "x"},
    ],
)
def test_a_wrong_answer_is_refused_and_none_of_its_batch_is_kept(
    client: TestClient, run: RunDir, wrong: dict[str, Any]
) -> None:
    reply = client.post("/api/answers", json=[sent(1), {**sent(2), **wrong}])
    assert reply.status_code == 400 and reply.json()["error"]
    assert not run.answers.exists()


def test_two_reviewers_who_differ_are_a_filter_and_a_third_decides(run: RunDir, client_of: Any) -> None:
    ann, bob = client_of(open_review(run)), client_of(open_review(run))  # two servers of one run
    ann.post("/api/answers", json=[sent(5, value="normal"), sent(6, value="normal")])
    bob.post(
        "/api/answers",
        json=[sent(5, 1, value=LABELS.attributes[0].values[0], reviewer="bob"), sent(6, 1, reviewer="bob")],
    )
    news = ann.get("/api/changes", params={"since": 2, "reviewer": "ann"}).json()
    assert {(label["row"], label["label"]["state"]) for label in news["labels"]} == {(5, "disputed"), (6, "labeled")}
    assert (news["num_pairs"], news["num_equal"], news["num_answered"]) == (2, 1, 2)
    assert [item["row"] for item in pages(ann, progress="disputed")] == [5]
    assert ann.get("/api/counts").json()["progress"]["disputed"] == 1
    ann.post("/api/answers", json=[sent(5, 2, reviewer="cho")])
    assert pages(bob, progress="disputed") == []
    assert {item["row"] for item in pages(bob, progress="mine", reviewer="bob")} == {5, 6}


def test_undo_takes_an_answer_back(client: TestClient, run: RunDir) -> None:
    client.post("/api/answers", json=[sent(5)])
    reply = client.post("/api/answers", json=[sent(5, 1, decision="undo", value=None)]).json()
    assert reply["labels"][0]["label"]["state"] == "open" and reply["labels"][0]["label"]["mine"] is None
    assert verdicts(read_answers(run.answers)) == {}
    assert len(pages(client, progress="undecided")) == 540


def test_equal_pictures_share_their_answers(run: RunDir) -> None:
    review = open_review(run)
    hashes = review.faces.content_hashes
    append_answers(
        run.answers, [answer(content_hash=hashes[3].as_py(), attribute="mask", value="normal", image_id="renamed")]
    )
    append_answers(run.answers, [answer(content_hash="of no face", attribute="mask", value="normal")])
    review.votes.refresh()
    assert np.flatnonzero(review.votes.states["mask"]).tolist() == [3]


def test_an_audit_hides_the_guess_until_one_has_answered(run: RunDir, client_of: Any) -> None:
    review = open_review(run, queue="audit", num=30, seed=1)
    client, queue = client_of(review), review.queue.name
    items = pages(client, reviewer="ann")
    assert len(items) == 30 and review.queue.is_audit
    text = json.dumps([item["labels"] for item in items]) + client.get(f"/api/face/{items[0]['row']}?reviewer=ann").text
    assert not any(f'"{value}"' in text for value in ("normal", "m", "f")) and "0." not in text
    for query in ({"sort": "sure"}, {"value.mask": "normal"}, {"status": "accepted"}, {"lower": 0.9}, {"reason": "x"}):
        assert client.get("/api/faces", params=query).status_code == 400
    assert set(client.get("/api/counts").json()) == {"progress"}
    assert client.get("/api/map").json()["state"] == "hidden"
    first = items[0]
    value = LABELS.to_dict()[first["attribute"]][0]
    client.post("/api/answers", json=[sent(first["row"], attribute=first["attribute"], value=value, queue=queue)])
    again = {item["item"]: item for item in pages(client, reviewer="ann")}[first["item"]]["labels"][first["attribute"]]
    assert not again["hidden"] and again["guess"] is not None and again["mine"]["value"] == value
    assert pages(client, reviewer="bob")[first["item"]]["labels"][first["attribute"]]["hidden"]
    assert len(pages(client, reviewer="ann", progress="undecided")) == 29
    assert len(pages(client, reviewer="bob", progress="undecided")) == 30


def test_precision_counts_the_audits_answers_and_no_others(run: RunDir, client_of: Any) -> None:
    chosen = open_review(run)
    names = LABELS.names
    audit = open_review(run, queue="audit", num=30)
    assert audit.queue.sample is not None
    truth = list(
        zip(audit.queue.rows.tolist(), audit.queue.attributes.tolist(), audit.queue.sample["value"], strict=True)
    )
    wrong = [sent(row, n, attribute=names[a], decision="reject", value=None) for n, (row, a, _) in enumerate(truth)]
    client_of(chosen).post("/api/answers", json=wrong)
    client = client_of(open_review(run, queue="audit", num=30))
    news = client.get("/api/changes", params={"reviewer": "ann"}).json()
    assert news["num_answered"] == 0 and news["precision"][0]["precision"] is None
    right = [
        sent(row, 100 + n, attribute=names[a], value=value, queue=audit.queue.name)
        for n, (row, a, value) in enumerate(truth[:-1])
    ]
    row, a, _ = truth[-1]
    right.append(sent(row, 200, attribute=names[a], decision="reject", value=None, queue=audit.queue.name))
    assert client.post("/api/answers", json=right).status_code == 200
    news = client.get("/api/changes", params={"reviewer": "ann"}).json()
    assert [one["name"] for one in news["precision"]] == ["all labels", *names]
    total = news["precision"][0]
    assert total["num_answered"] == total["num_sampled"] == 30 and news["num_answered"] == 30
    assert 0.7 < total["lower"] < total["precision"] < 1 and total["precision"] < total["upper"] <= 1
    assert all(one.is_audit for one in read_answers(run.answers) if one.queue == audit.queue.name)


def test_the_order_of_an_audit_tells_no_guess(run: RunDir) -> None:
    sample = open_review(run, queue="audit", num=60).queue.sample
    assert sample is not None
    changes = (sample["value"].to_numpy()[1:] != sample["value"].to_numpy()[:-1]).sum()
    assert changes > 2 * sample["value"].nunique()
    assert (
        open_review(run, queue="audit", num=60).queue.rows.tolist()
        == open_review(run, queue="audit", num=60).queue.rows.tolist()
    )


def test_a_queue_from_a_file_keeps_its_order_and_its_reasons(run: RunDir, client_of: Any, tmp_path: Path) -> None:
    file = tmp_path / "next.csv"
    file.write_text(
        "image_id,reason\npool:0007.jpg,typical\npool:0003.jpg,diverse\nmine:000002.png,a test face\nx,none\n"
    )
    review = open_review(run, queue=str(file))
    items = pages(client_of(review), reviewer="ann")
    assert [(item["id"], item["why"]) for item in items] == [("pool:0007.jpg", "typical"), ("pool:0003.jpg", "diverse")]
    assert not review.queue.is_audit and "2 are not in this run" in review.queue.title


def test_likely_wrong_labels_are_a_queue_if_the_run_has_them(run: RunDir, client_of: Any) -> None:
    assert open_review(run).queues == ["audit"]
    row = {
        "image_id": "mine:000000.png",
        "attribute": "gender",
        "label": "m",
        "likely_label": "f",
        "score": 0.1,
        "kind": "guess",
    }
    pd.DataFrame([row]).to_parquet(run.root / "label_errors.parquet")
    assert open_review(run).queues == ["audit", "label-errors"]
    (item,) = pages(client_of(open_review(run, queue="label-errors")))
    assert (item["id"], item["attribute"], item["why"]) == ("mine:000000.png", "gender", "labeled m, likely f (guess)")
    assert item["labels"]["gender"] | {"num_votes": 0} == item["labels"]["gender"]
    assert (item["labels"]["gender"]["status"], item["labels"]["gender"]["guess"]) == ("labeled", "m")


def test_a_selection_of_rows_is_a_filter(client: TestClient) -> None:
    reply = client.post("/api/selection", json=[3, 5, 8, 10**9, -4]).json()
    assert [item["row"] for item in pages(client, selection=reply["selection"])] == [3, 5, 8]


@pytest.mark.parametrize(
    ("queue", "words"),
    [("none.csv", "not a readable CSV"), ("label-errors", "no table of likely wrong labels")],
)
def test_a_queue_that_cannot_be_used_is_refused(run: RunDir, queue: str, words: str) -> None:
    with pytest.raises(RunError, match=words):
        open_review(run, queue=queue)


def test_faces_that_are_not_the_manifests_are_refused(run_template: Path, tmp_path: Path) -> None:
    root = tmp_path / "changed"
    shutil.copytree(run_template, root)
    record = json.loads((root / "faces/done.json").read_text())
    (root / "faces/done.json").write_text(json.dumps(record | {"outputs": {}}))
    with pytest.raises(ManifestError, match="other faces than the run has now"):
        open_review(RunDir(root))
    with pytest.raises(RunError, match="no round has a manifest"):
        open_review(RunDir(tmp_path / "empty"))


def test_an_address_that_cannot_be_listened_on_is_refused(run: RunDir) -> None:
    with pytest.raises(ConfigError, match="name the one address"):
        serve(open_review(run), host="0.0.0.0", open_browser=False, tell=print)
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1"):
        serve(open_review(run), host="192.0.2.1", port=8000, open_browser=False, tell=print)


def test_no_confirmed_answer_is_lost_by_a_kill(run: RunDir) -> None:
    command = [sys.executable, "-m", "ssl_pipeline.cli.main", "review", str(run.root), "--no-browser"]
    confirmed: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = next(found[0] for line in process.stdout if (found := re.search(r"http://127\S+", line)))
        with httpx.Client(base_url=address.partition("/?")[0]) as client:
            client.get(address)
            timer = threading.Timer(1.0, process.kill)
            timer.start()
            for number in itertools.count():
                try:
                    confirmed += client.post("/api/answers", json=[sent(number % 500, number)]).json()["saved"]
                except httpx.HTTPError:
                    break
    assert len(confirmed) > 5
    assert {one.id for one in read_answers(run.answers)} >= set(confirmed)
