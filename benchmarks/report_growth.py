"""Time, memory and size of a run's report over the size of its pool, up to a million faces.

python -m benchmarks.report_growth --run data/runs/demo     writes the table into docs/report.md

The pool of a finished run is repeated: every copy has its own id and jittered confidences, in both manifests, the face
table and the hidden labels; copies share the pixels of their original, so that the faces on disk stay those of the run.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.docs.marked_sections import replace_section
from benchmarks.tables import markdown_table
from ssl_pipeline.pseudo_labels.manifest_file import METADATA_KEY
from ssl_pipeline.runs.files import digest_file, digest_of, read_json, write_json

_CODE = (
    "import resource, sys; from pathlib import Path; from ssl_pipeline.stages.report import report_run\n"
    "report_run(Path(sys.argv[1])); used = resource.getrusage(resource.RUSAGE_SELF)\n"
    "print(used.ru_utime + used.ru_stime, used.ru_maxrss)"
)


def main() -> None:
    """Measure each size in a process of its own, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, default=Path("data/runs/demo"))
    parser.add_argument("--rows", default="10000,100000,1000000")
    parser.add_argument("--docs", type=Path, default=Path("docs/report.md"))
    arguments = parser.parse_args()
    rows = []
    for num_rows in map(int, arguments.rows.split(",")):
        with tempfile.TemporaryDirectory(dir=arguments.run.parent) as folder:
            grown = grow(arguments.run, Path(folder) / "run", num_rows)
            rows.append([f"{num_rows:,}", *measure(grown)])
        print(rows[-1])
    table = markdown_table(
        ["faces in the pool", "seconds", "processor seconds", "peak memory, MB", "page, MB"], "rrrrr", rows
    )
    replace_section(arguments.docs, "growth", "\n".join(table))


def grow(source: Path, target: Path, num_rows: int) -> Path:
    """Copy a run with its pool repeated to a number of faces; its records fit the new files."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.png", "last.pt", "report.html", "face_features"))
    faces = target / "faces"
    for name in ("unlabeled.parquet", "unlabeled_truth.parquet"):
        table = pq.read_table(faces / name, partitioning=None)
        with pq.ParquetWriter(faces / name, table.schema) as writer:
            for part in repeated(table, num_rows, jitter=False):
                writer.write_table(part)
    record = read_json(faces / "done.json")
    record["outputs"] = {name: digest_file(faces / name) for name in record["outputs"]}
    write_json(faces / "done.json", record)
    for path in target.glob("round-*/pseudo_labels/manifest.parquet"):
        table = pq.read_table(path, partitioning=None)
        metadata = json.loads(table.schema.metadata[METADATA_KEY])
        metadata["identity"]["faces_digest"] = digest_of(record["outputs"])
        schema = table.schema.with_metadata({METADATA_KEY: json.dumps(metadata)})
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for part in repeated(table, num_rows, jitter=True):
                writer.write_table(part.cast(schema))
    return target


def repeated(table: pa.Table, num_rows: int, *, jitter: bool) -> Any:
    """Yield tables of together `num_rows` rows, with ids in ascending order; `jitter` moves the confidences."""
    rng, made = np.random.default_rng(0), 0
    while made < num_rows:
        part = table.slice(0, min(len(table), num_rows - made))
        ids = pa.array([f"copy-{made + n:08d}.png" for n in range(len(part))], part.schema.field("image_id").type)
        part = part.set_column(part.schema.get_field_index("image_id"), part.schema.field("image_id"), ids)
        if "picture_id" in part.column_names:
            field = part.schema.field("picture_id")
            part = part.set_column(part.schema.get_field_index("picture_id"), field, ids.cast(field.type))
        for name in part.column_names if jitter else ():
            if name.endswith("_confidence"):
                moved = part[name].to_numpy() * (1 - 1e-3 * rng.random(len(part)))
                part = part.set_column(part.schema.get_field_index(name), part.schema.field(name), pa.array(moved))
        made += len(part)
        yield part


def measure(run: Path) -> list[str]:
    """Write a run's report in another process; return seconds with its start, those of the processor, peak memory and size of the page."""
    started = time.monotonic()
    command = [sys.executable, "-c", _CODE, str(run)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.monotonic() - started
    processor, kilobytes = map(float, result.stdout.split()[-2:])
    return [
        f"{seconds:.0f}",
        f"{processor:.0f}",
        f"{kilobytes / 1024:,.0f}",
        f"{(run / 'report.html').stat().st_size / 1e6:.1f}",
    ]


if __name__ == "__main__":
    main()
