"""Time and memory of the commands over a manifest as it grows; writes a part of docs/scaling.md.

    python -m benchmarks.manifest_growth

Writes manifests of random rows, three attributes and 18 classes, by groups of rows, and runs each command in a process of
its own. Seconds are of processor time; the memory is the process's peak, the interpreter and its libraries included. The
largest manifest takes about 1.2 GB of disk, and is removed. Linux only.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from benchmarks.docs.marked_sections import replace_section
from benchmarks.tables import markdown_table
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.pseudo_labels.manifest_columns import manifest_schema, table_of
from ssl_pipeline.pseudo_labels.manifest_file import (
    FORMAT,
    FORMAT_VERSION,
    METADATA_KEY,
    ROWS_PER_BATCH,
    ManifestIdentity,
)

LABELS = LabelSpace.of({"mask": ["wear", "incorrect", "normal"], "gender": ["m", "f"], "age": ["<30", "30-59", ">=60"]})
_SELECTION: dict[str, object] = {"settings": {"type": "fixed_threshold"}, "thresholds": [], "faults": [], "shift": None}


def write_rows(path: Path, num_rows: int) -> None:
    """Write a manifest of random rows."""
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "identity": asdict(ManifestIdentity("growth", 1, "faces", "teacher", "selection")),
        "labels": LABELS.to_dict(),
        "targets": "soft",
        "selection": _SELECTION,
    }
    schema = manifest_schema(LABELS).with_metadata({METADATA_KEY: json.dumps(metadata).encode()})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for table in _tables(num_rows, schema):
            writer.write_table(table)


def _tables(num_rows: int, schema: pa.Schema) -> Iterator[pa.Table]:
    rng = np.random.default_rng(0)
    for start in range(0, num_rows, ROWS_PER_BATCH):
        num = min(ROWS_PER_BATCH, num_rows - start)
        probabilities = rng.dirichlet(np.full(LABELS.num_classes, 0.05), num).astype(np.float32)
        ids = [f"pool:folder/picture-{number:09d}.jpg" for number in range(start, start + num)]
        columns: dict[str, object] = dict.fromkeys(("image_id", "image_path", "content_hash", "person_id"), ids)
        columns |= {"picture_id": ids, "source": ["pool"] * num, "class_id": probabilities.argmax(axis=1)}
        columns["class_name"] = np.array(LABELS.class_names, object)[probabilities.argmax(axis=1)]
        columns["confidence"] = np.round(probabilities.max(axis=1).astype(float), 7)
        columns["class_probabilities"] = pa.FixedSizeListArray.from_arrays(
            pa.array(probabilities.ravel()), type=schema.field("class_probabilities").type
        )
        accepted_any = np.zeros(num, bool)
        for position, per_value in enumerate(LABELS.attribute_probabilities(probabilities)):
            attribute, confidence = LABELS.attributes[position], np.round(per_value.max(axis=1).astype(float), 7)
            accepted = confidence >= 0.8
            accepted_any |= accepted
            codes = pa.array(per_value.argmax(axis=1).astype(np.int32))
            columns[attribute.name] = pa.DictionaryArray.from_arrays(codes, pa.array(attribute.values, pa.string()))
            columns[f"{attribute.name}_confidence"] = confidence
            columns[f"{attribute.name}_status"] = np.where(accepted, "accepted", "rejected").astype(object)
            columns[f"{attribute.name}_reason"] = [
                f"confidence {number:.3f} {'>=' if kept else '<'} 0.8"
                for number, kept in zip(confidence, accepted, strict=True)
            ]
        columns["status"] = np.where(accepted_any, "accepted", "rejected").astype(object)
        columns["reason"] = columns["mask_reason"]
        yield table_of(columns, num, schema)


def measure(command: list[str]) -> tuple[float, float]:
    """Run a command in a process of its own; return its seconds of processor time and its peak memory in MiB."""
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)"
    )
    cli = [sys.executable, "-m", "ssl_pipeline.cli.main", *command]
    output = subprocess.run([sys.executable, "-c", code, *cli], check=True, capture_output=True, text=True).stdout
    seconds, peak = output.split()
    return float(seconds), float(peak)


def main(
    rows: Annotated[str, typer.Option(help="Numbers of rows, separated by commas.")] = "100000,1000000,10000000",
    out: Annotated[Path, typer.Option(help="The page whose section is replaced.")] = Path("docs/scaling.md"),
) -> None:
    """Measure each command at each number of rows and write the table."""
    lines = []
    for num_rows in map(int, rows.split(",")):
        with tempfile.TemporaryDirectory(dir="data") as folder:
            manifest = Path(folder) / "manifest.parquet"
            write_rows(manifest, num_rows)
            face = f"pool:folder/picture-{num_rows // 2:09d}.jpg"
            for name, command in {
                "summary": ["summary", str(manifest)],
                "show --status rejected": ["show", str(manifest), "--status", "rejected"],
                "explain": ["explain", str(manifest), face],
                "diff with itself": ["diff", str(manifest), str(manifest)],
                "export --status rejected, CSV": [
                    *("export", str(manifest), "--status", "rejected", "--out", str(manifest.with_suffix(".csv"))),
                ],
            }.items():
                seconds, peak = measure(["manifest", *command])
                lines.append([f"{num_rows:,}", f"`{name}`", f"{seconds:.1f} s", f"{peak:,.0f} MiB"])
                print(*lines[-1], flush=True)
    text = [f"`python -m benchmarks.manifest_growth --rows {rows}`, 18 classes:", ""]
    text += markdown_table(["rows", "`ssl-pipeline manifest …`", "processor time", "peak memory"], "rlrr", lines)
    replace_section(out, "manifest-growth", "\n".join(text))


if __name__ == "__main__":
    typer.run(main)
