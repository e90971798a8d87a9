"""Run every fault and write docs/faults.md: the fault, the observations, how the run resumed.

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

from tests.faults.cases import CASES, Case, Report
from tests.faults.station import COMPARED, TWO_PROCESSES, Station, digests

SAME = "the same bytes"
HEADER = """# Faults

`make faults` (`tests/faults`) runs each case and writes this file: processes killed with `kill -9`, with their own server
and worker, and a full disk. A case passes if the resumed run writes the same bytes as an uninterrupted run: the manifest,
the teacher's weights and the student's weights.
"""

FOOTER = """## What follows

- A worker whose flow process is killed reports Crashed twice: at once, and again when its own child has ended. The second
  report also sets a retry to Crashed that has started in between: wait for it before you retry.
- A flow retries requests to an unreachable server `PREFECT_CLIENT_MAX_RETRIES` times with growing pauses (2 + 4 + …
  seconds; 8 times here, about eight minutes). Stages need no server and continue; the end of the flow needs it, and a
  training that takes a slot of a limit. If the retries run out, the files are complete and the flow run is not: retry it
  (after `python -m flows.operations.stuck --mark`, if it is still Running), and all stages skip.
- By default a server keeps the leases of a limit's slots in memory and loses them at a restart: the slots then stay
  occupied until `prefect gcl update gpu --active-slots 0`. Start it with
  `PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE=prefect.server.concurrency.lease_storage.filesystem`, as the last case does.
- A full disk ends a run with one message. The space of a memory-mapped array is reserved first; otherwise the kernel
  ends the process with SIGBUS, without a message.
"""


@dataclass(frozen=True)
class Outcome:
    """A row of the table; kept in one file per case, so that single cases can be repeated."""

    name: str
    fault: str
    observed: str
    resumed: str
    verdict: str
    seconds: float

    @property
    def passed(self) -> bool:
        return self.verdict == SAME or self.verdict.startswith("skipped")


def run_uninterrupted(directory: Path, raw: Path, *, two_processes: bool) -> dict[str, str]:
    """Run the same cycle without a fault and without a server; return the digests of its results."""
    station = Station(directory, raw=raw, overrides=(TWO_PROCESSES,) if two_processes else ())
    del station.operator.environment["PREFECT_API_URL"]
    assert station.local().wait(300) == 0, station.logs()
    return digests(station.run)


def run_case(case: Case, directory: Path, raw: Path, expected: dict[str, str]) -> Outcome:
    report, started = Report(), time.monotonic()
    overrides = (TWO_PROCESSES,) if case.two_processes else ()
    if case.needs_root and os.geteuid() != 0:
        return Outcome(case.name, case.fault, "", "", "skipped: needs root, to mount a tmpfs", 0.0)
    try:
        with Station(directory, raw=raw, overrides=overrides, **case.environment) as station:
            case.run(station, report)
            results = digests(station.run)
        differing = [name for name in COMPARED if results[name] != expected[name]]
        verdict = f"DIFFERS: {', '.join(differing)}" if differing else SAME
    except Exception:
        traceback.print_exc()
        verdict = "FAILED"
    seconds = round(time.monotonic() - started, 1)
    return Outcome(case.name, case.fault, "; ".join(report.observations), report.resumed, verdict, seconds)


def table(outcomes: list[Outcome]) -> str:
    rows = ["| part | fault | observed | resumed | manifest and weights | duration |", "|---|---|---|---|---|---|"]
    rows += [
        f"| {row.name} | {row.fault} | {row.observed} | {row.resumed} | {row.verdict} | {row.seconds:.0f} s |"
        for row in outcomes
    ]
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[""], help="cases with one of these words in their names")
    parser.add_argument("--results", type=Path, default=Path("data/runs/faults"), help="a folder; one file per case")
    parser.add_argument("--out", type=Path, default=Path("docs/faults.md"), help="the table of all kept results")
    arguments = parser.parse_args()
    cases = [case for case in CASES if any(words.lower() in case.name.lower() for words in arguments.only)]
    arguments.results.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        root = Path(folder)
        expected = {
            two: run_uninterrupted(root / f"uninterrupted-{two}", root / "raw", two_processes=two)
            for two in sorted({case.two_processes for case in cases})
        }
        for number, case in enumerate(cases):
            outcome = run_case(case, root / f"case-{number:02d}", root / "raw", expected[case.two_processes])
            print(table([outcome]).splitlines()[-1], flush=True)  # noqa: T201 - output of a command
            (arguments.results / f"{CASES.index(case):02d}.json").write_text(json.dumps(asdict(outcome), indent=2))
    kept = [Outcome(**json.loads(path.read_text())) for path in sorted(arguments.results.glob("*.json"))]
    machine = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    arguments.out.write_text(f"{HEADER}\n{table(kept)}\n\n{FOOTER}\nRun on {time.strftime('%Y-%m-%d')}: {machine}.\n")
    return int(not all(outcome.passed for outcome in kept))


if __name__ == "__main__":
    sys.exit(main())
