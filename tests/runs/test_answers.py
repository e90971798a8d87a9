"""Answers of people: nothing is lost, nobody overwrites another, and three decide where two differ."""

import os
import signal
import subprocess
import sys
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.runs.answers import Answer, append_answers, current_answers, faults_of, read_answers, verdicts

LABEL = ("hash", "gender")


def answer(reviewer: str = "ann", decision: str = "label", value: str | None = "male", **changed: Any) -> Answer:
    fields = {
        "id": str(uuid.uuid4()),
        "image_id": "pool:a.jpg",
        "content_hash": "hash",
        "attribute": "gender",
        "decision": decision,
        "value": value if decision == "label" else None,
        "reviewer": reviewer,
        "time": "2026-01-01T00:00:00Z",
    }
    return Answer.model_validate(fields | changed)


def test_answers_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    assert read_answers(path) == []
    first, second = answer(image_id='pool:<b>"\n\u202e가.jpg'), answer("이름", "reject")
    append_answers(path, [first])
    append_answers(path, [second])
    assert read_answers(path) == [first, second]
    assert len(path.read_bytes().splitlines()) == 2


def test_an_answer_that_is_sent_again_counts_once(tmp_path: Path) -> None:
    path, once = tmp_path / "answers.jsonl", answer()
    append_answers(path, [once, once])
    append_answers(path, [once])
    assert read_answers(path) == [once]


def test_a_torn_line_is_left_out_and_what_follows_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "answers.jsonl"
    before, after = answer(), answer("bob")
    append_answers(path, [before])
    with open(path, "ab") as file:
        file.write(b'{"id": "half of an ans')
    assert read_answers(path) == [before]
    append_answers(path, [after])
    assert read_answers(path) == [before, after]
    assert "line 2: not a whole answer" in caplog.text


def test_no_answer_that_was_confirmed_is_lost_by_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path\n"
        "from tests.runs.test_answers import answer, append_answers\n"
        "for _ in range(10**6):\n    one = answer(); append_answers(Path(sys.argv[1]), [one]); print(one.id, flush=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path), str(Path(__file__).parents[2])], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        confirmed = [process.stdout.readline().strip() for _ in range(30)]
        os.kill(process.pid, signal.SIGKILL)
        confirmed += [line.strip() for line in process.stdout if line.endswith("\n")]
    assert {one.id for one in read_answers(path)} >= set(confirmed)


def test_a_reviewer_has_one_vote_a_label() -> None:
    result = verdicts([answer(), answer(value="female")])[LABEL]
    assert (result.state, result.value, len(result.votes)) == ("labeled", "female", 1)


def test_two_who_differ_leave_the_label_out_until_a_third_decides() -> None:
    two = [answer("ann"), answer("bob", value="female")]
    assert (verdicts(two)[LABEL].state, verdicts(two)[LABEL].value) == ("disputed", None)
    assert verdicts([*two, answer("cho")])[LABEL].value == "male"
    assert verdicts([*two, answer("cho", "reject")])[LABEL].state == "disputed"
    assert verdicts([*two, answer("cho", "unsure")])[LABEL].state == "disputed"
    rejected = verdicts([*two, answer("cho", "reject"), answer("dan", "reject")])[LABEL]
    assert (rejected.state, rejected.value) == ("rejected", None)


def test_undo_returns_to_the_reviewers_answer_before() -> None:
    steps = [answer(), answer(value="female"), answer(decision="undo")]
    assert verdicts(steps)[LABEL].value == "male"
    assert verdicts([*steps, answer(decision="undo")]) == {}
    assert verdicts([*steps, answer("bob", "undo")])[LABEL].value == "male"  # bob has nothing to take back
    assert verdicts([*steps, answer(decision="unsure")])[LABEL].state == "unsure"


def test_an_answer_outlives_a_renamed_file_and_attributes_are_apart() -> None:
    result = verdicts(
        [answer(image_id="old.jpg"), answer("bob", image_id="new.jpg"), answer(attribute="age", value="<30")]
    )
    assert set(result) == {LABEL, ("hash", "age")}
    assert len(result[LABEL].votes) == 2


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["male", "female", "reject", "unsure", "undo"]))))
def test_the_verdict_is_the_plurality_of_last_answers(steps: list[tuple[str, str]]) -> None:
    answers = [
        answer(who, "label" if what in ("male", "female") else what, what if what in ("male", "female") else None)
        for who, what in steps
    ]
    last: dict[str, list[str]] = {}
    for who, what in steps:
        stack = last.setdefault(who, [])
        if what != "undo":
            stack.append(what)
        elif stack:
            stack.pop()
    counts = Counter(stack[-1] for stack in last.values() if stack and stack[-1] != "unsure").most_common()
    result = verdicts(answers).get(LABEL)
    if not counts:
        assert result is None or result.state == "unsure"
    elif len(counts) > 1 and counts[0][1] == counts[1][1]:
        assert result is not None and result.state == "disputed"
    else:
        assert result is not None and (result.value or "reject") == counts[0][0]
    assert set(current_answers(answers).get(LABEL, {})) == {who for who, stack in last.items() if stack}


def test_answers_are_strict() -> None:
    for wrong in (
        {"decision": "label", "value": None},
        {"decision": "reject", "value": "male"},
        {"id": "../x"},
        {"reviewer": ""},
        {"extra": 1},
    ):
        with pytest.raises(ValidationError):
            Answer.model_validate(answer().model_dump() | wrong)
    labels = LabelSpace.of({"gender": ["male", "female"]})
    assert faults_of(answer(), labels) is None
    assert faults_of(answer(attribute="age"), labels) == "'age' is not an attribute ['gender']"
    assert faults_of(answer(value="x"), labels) == "'x' is not a value of 'gender' ['male', 'female']"
