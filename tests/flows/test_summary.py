"""The printed summary of a cycle: data is text, never markup."""

import pytest

from flows.full_cycle import print_summary


def test_a_note_with_brackets_ends_no_cycle(capsys: pytest.CaptureFixture[str]) -> None:
    note = "see [/data/faces] and [bold]these[/bold]"
    print_summary(
        {
            "status": "stopped by review",
            "reviews": [{"reviewer": "[someone]", "round": 1, "note": note}],
            "student": None,
            "counts": {"candidates": 2, "accepted": 1, "rejected": 1, "unreadable": 0},
            "manifest": "runs/[a]/manifest.parquet",
            "promoted_checkpoint": "best.safetensors",
        }
    )
    printed = capsys.readouterr().out
    assert note in printed and "[someone]" in printed and "runs/[a]/manifest.parquet" in printed
