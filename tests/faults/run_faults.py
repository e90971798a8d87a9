"""Do every fault for real and write docs/faults.md: what was done, what was seen, how it ended.

python -m tests.faults.run_faults [--only WORDS] [--out docs/faults.md]
"""

import argparse
import os
import platform
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from tests.faults.cases import CASES, Account, Case
from tests.faults.station import COMPARED, TWO_PROCESSES, Station, digests

HEADER = """# Faults

Each case was done for real by `make faults` (`tests/faults`): processes killed with `kill -9`, a server and a worker of
their own, a disk that is full. A case has ended as it should when the run, gone on with, leaves the manifest, the
teacher's weights and the student's weights of an undisturbed run, byte for byte. This file is written by that command.
"""


@dataclass(frozen=True)
class Outcome:
    case: Case
    account: Account
    verdict: str
    seconds: float


def undisturbed(directory: Path, raw: Path, *, two_processes: bool) -> dict[str, str]:
    """Do the same cycle with nothing broken, and without a server."""
    station = Station(directory, raw=raw, overrides=(TWO_PROCESSES,) if two_processes else ())
    del station.operator.environment["PREFECT_API_URL"]
    assert station.local().wait(300) == 0, station.logs()
    return digests(station.run)


def play(case: Case, directory: Path, raw: Path, expected: dict[str, str]) -> Outcome:
    account, started = Account(), time.monotonic()
    overrides = (TWO_PROCESSES,) if case.two_processes else ()
    if case.needs_root and os.geteuid() != 0:
        return Outcome(case, account, "skipped: needs root, to mount a tmpfs", 0.0)
    try:
        with Station(directory, raw=raw, overrides=overrides, **case.environment) as station:
            case.play(station, account)
            found = digests(station.run)
        differing = [name for name in COMPARED if found[name] != expected[name]]
        verdict = f"differs: {', '.join(differing)}" if differing else "the same bytes"
    except Exception:
        traceback.print_exc()
        verdict = "NOT AS PROMISED"
    return Outcome(case, account, verdict, time.monotonic() - started)


def table(outcomes: list[Outcome]) -> str:
    rows = ["| fault | done | seen | went on | manifest and weights | whole case |", "|---|---|---|---|---|---|"]
    rows += [
        f"| {one.case.name} | {one.case.done} | {'; '.join(one.account.seen)} | {one.account.ended} | {one.verdict} | "
        f"{one.seconds:.0f} s |"
        for one in outcomes
    ]
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name has these words")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    cases = [case for case in CASES if arguments.only.lower() in case.name.lower()]
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        root = Path(folder)
        expected = {
            two: undisturbed(root / f"undisturbed-{two}", root / "raw", two_processes=two)
            for two in sorted({case.two_processes for case in cases})
        }
        for number, case in enumerate(cases):
            outcomes.append(play(case, root / f"case-{number:02d}", root / "raw", expected[case.two_processes]))
            print(table(outcomes[-1:]).splitlines()[-1], flush=True)
    machine = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    text = f"{HEADER}\n{table(outcomes)}\n\nRun on {time.strftime('%Y-%m-%d')}: {machine}.\n"
    if arguments.out is not None:
        arguments.out.write_text(text, encoding="utf-8")
    return int(
        any(one.verdict not in ("the same bytes",) and not one.verdict.startswith("skipped") for one in outcomes)
    )


if __name__ == "__main__":
    sys.exit(main())
