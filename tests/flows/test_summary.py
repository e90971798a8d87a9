"""The printed summary of a cycle: data is text, never markup."""

import pytest

from flows.full_cycle import print_summary

TEACHER = {"validation": {"num_faces": 40, "per_attribute": {"age": {"accuracy": 0.75}}}}


def test_a_note_with_brackets_ends_no_cycle(capsys: pytest.CaptureFixture[str]) -> None:
    note = "see [/data/faces] and [bold]these[/bold]"
    print_summary(
        {
            "status": "stopped by review",
            "reviews": [{"reviewer": "[someone]", "round": 1, "note": note}],
            "student": None,
            "teacher": TEACHER,
            "counts": {"candidates": 2, "accepted": 1, "rejected": 1, "unreadable": 0, "removed_from_pool": {}},
            "precision": None,
            "manifest": "runs/[a]/manifest.parquet",
            "promoted_checkpoint": "best.safetensors",
        }
    )
    printed = capsys.readouterr().out
    assert note in printed and "[someone]" in printed and "runs/[a]/manifest.parquet" in printed


def test_what_the_student_says_of_the_pool_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    right = {kind: {"num": 3, "before": 1, "after": 2} for kind in ("gained", "lost", "changed", "other_value")}
    changes = {"kept": 9, "gained": 4, "lost": 5, "changed": 3, "other_value": 8, "right": right}
    own = {
        "student": 1,
        "counts": {"candidates": 20, "accepted": 16},
        "faults": ["[a fault]; --set cure=1"],
        "difference": {"per_attribute": {"[age]": changes}},
        "manifest": "round-02/manifest.parquet",
    }
    counts = {"candidates": 2, "accepted": 1, "rejected": 1, "unreadable": 0, "removed_from_pool": {}}
    print_summary(
        {
            "status": "stopped by review",
            "reviews": [{"reviewer": "x", "round": 2, "note": ""}],
            "student": None,
            "teacher": TEACHER,
            "student_labels": own,
            "counts": counts,
            "precision": None,
            "manifest": "manifest.parquet",
            "promoted_checkpoint": "best.safetensors",
        }
    )
    assert (
        "The student of round 1 labels the pool once more: 16 of 20 candidates accepted ([a fault]). Against the labels that "
        "it was trained on: [age] 4 gained, 5 lost, 3 changed (1 → 2 right of 3). Its manifest: round-02/manifest.parquet"
    ) in capsys.readouterr().out


def test_faces_that_were_removed_from_the_pool_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    removed = {"test": 3, "guarantee": 0, "validation": 0, "train": 11, "pool": 2}
    print_summary(
        {
            "pool_teaches": False,
            "student": None,
            "teacher": TEACHER,
            "counts": {"candidates": 9, "accepted": 0, "rejected": 8, "unreadable": 1, "removed_from_pool": removed},
            "precision": None,
            "manifest": "manifest.parquet",
            "promoted_checkpoint": "best.safetensors",
        }
    )
    printed = capsys.readouterr().out
    assert "The teacher's accuracy on 40 validation faces: age 75.0 %." in printed
    assert (
        "0 of 9 candidates accepted, 8 rejected, 1 unreadable. Removed from the pool, as labeled faces show the same "
        "picture or person: 3 test, 11 train. Removed from the pool as duplicates: 2."
    ) in printed
