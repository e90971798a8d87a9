"""Do every fault for real and write docs/faults.md: what was done, what was seen, how it ended.

python -m tests.faults.run_faults [--only WORDS …]
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.faults.cases import CASES, Account, Case
from tests.faults.station import COMPARED, TWO_PROCESSES, Station, digests

SAME = "the same bytes"
HEADER = """# Faults

Each case was done for real by `make faults` (`tests/faults`): processes killed with `kill -9`, a server and a worker of
their own, a disk that is full. A case has ended as it should when the run, gone on with, leaves the manifest, the
teacher's weights and the student's weights of an undisturbed run, byte for byte. This file is written by that command.
"""

FOOTER = """## What follows

- A worker whose flow process is killed says Crashed twice: at once, and again when its own child has ended. A retry that
  has begun in between is set to Crashed by the second report, although it works: wait for it before you retry.
- A flow asks a server that is away again and again, `PREFECT_CLIENT_MAX_RETRIES` times with growing pauses (2 + 4 + …
  seconds; 8 times here, some eight minutes). Stages need no server and go on; what waits for it is the end of the flow,
  and a training that takes a place of a limit. If it waits in vain, the files are finished and the flow run is not:
  retry it (after `python -m flows.operations.stuck --mark`, if it is left as Running), and all stages skip.
- A server keeps the leases of a limit's places in memory unless told otherwise, and forgets them when it is restarted:
  the places that were taken then stay taken until somebody sets them free (`prefect gcl update gpu --active-slots 0`).
  Start it with
  `PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE=prefect.server.concurrency.lease_storage.filesystem`, as the last case does.
- A disk that is full ends a run with one message. An array that is mapped into memory has its room reserved first:
  without that, the kernel ends the process with SIGBUS and no word.
"""


@dataclass(frozen=True)
class Outcome:
    """A row of the table, as it is kept in a file of its own, so that single cases can be done again."""

    name: str
    done: str
    seen: str
    went_on: str
    verdict: str
    seconds: float

    @property
    def is_as_promised(self) -> bool:
        return self.verdict == SAME or self.verdict.startswith("skipped")


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
        return Outcome(case.name, case.done, "", "", "skipped: needs root, to mount a tmpfs", 0.0)
    try:
        with Station(directory, raw=raw, overrides=overrides, **case.environment) as station:
            case.play(station, account)
            found = digests(station.run)
        differing = [name for name in COMPARED if found[name] != expected[name]]
        verdict = f"DIFFERS: {', '.join(differing)}" if differing else SAME
    except Exception:
        traceback.print_exc()
        verdict = "NOT AS PROMISED"
    seconds = round(time.monotonic() - started, 1)
    return Outcome(case.name, case.done, "; ".join(account.seen), account.ended, verdict, seconds)


def table(outcomes: list[Outcome]) -> str:
    rows = ["| fault | done | seen | went on | manifest and weights | whole case |", "|---|---|---|---|---|---|"]
    rows += [
        f"| {one.name} | {one.done} | {one.seen} | {one.went_on} | {one.verdict} | {one.seconds:.0f} s |"
        for one in outcomes
    ]
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[""], help="cases whose names have one of these words")
    parser.add_argument("--results", type=Path, default=Path("data/runs/faults"), help="a folder: a file a case")
    parser.add_argument("--out", type=Path, default=Path("docs/faults.md"), help="the table of all results kept")
    arguments = parser.parse_args()
    cases = [case for case in CASES if any(words.lower() in case.name.lower() for words in arguments.only)]
    arguments.results.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        root = Path(folder)
        expected = {
            two: undisturbed(root / f"undisturbed-{two}", root / "raw", two_processes=two)
            for two in sorted({case.two_processes for case in cases})
        }
        for number, case in enumerate(cases):
            outcome = play(case, root / f"case-{number:02d}", root / "raw", expected[case.two_processes])
            print(table([outcome]).splitlines()[-1], flush=True)  # noqa: T201 - a command's voice
            (arguments.results / f"{CASES.index(case):02d}.json").write_text(json.dumps(asdict(outcome), indent=2))
    kept = [Outcome(**json.loads(path.read_text())) for path in sorted(arguments.results.glob("*.json"))]
    machine = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    arguments.out.write_text(f"{HEADER}\n{table(kept)}\n\n{FOOTER}\nRun on {time.strftime('%Y-%m-%d')}: {machine}.\n")
    return int(not all(one.is_as_promised for one in kept))


if __name__ == "__main__":
    sys.exit(main())
