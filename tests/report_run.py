"""A finished tiny run to report on, and its content with hostile names; shared by the tests of stages and of the page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.stages.finish import RoundOutcome, finish
from ssl_pipeline.stages.gate import gate
from ssl_pipeline.stages.open import open_run
from ssl_pipeline.stages.predict import predict
from ssl_pipeline.stages.report import report_facts
from ssl_pipeline.stages.report_context import ReportContext, ReportOptions
from ssl_pipeline.stages.report_faces import report_faces
from ssl_pipeline.stages.selection import select
from ssl_pipeline.stages.student_labels import label_pool_again
from ssl_pipeline.stages.teachers import train_teacher
from ssl_pipeline.stages.train import train_control, train_student
from tests.cycle_config import draw_and_prepare, write_tiny_config

HOSTILE = {
    "male": "<script>alert('male')</script>",
    "female": '"><img src=x onerror=alert(1)>',
    "elsewhere": "[/bold]\n[red]else\u202ewhere\u2028</script>",
}
"""Names of the tiny run, and what they become."""


def finish_tiny_run(directory: Path) -> tuple[RunConfig, RunDir, dict[str, Any]]:
    """Run a cycle of one round with a control."""
    config = load_config(write_tiny_config(directory, control=True))
    with open_run(config) as run:
        draw_and_prepare(config, run)
        train_teacher(config, run)
        predict(config, run, 1, run.teacher / "best.safetensors")
        select(config, run, 1)
        student = train_student(config, run, 1)
        outcome = RoundOutcome(1, student=student, gate=gate(config, run, 1, run.teacher))
        train_control(config, run, 1)
        summary = finish(config, run, [outcome], label_pool_again(config, run, 1))
    return config, run, summary


def content_of(
    config: RunConfig, run: RunDir, summary: Mapping[str, Any], **options: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what `render_report` takes."""
    manifest = run.pseudo_labels(1) / "manifest.parquet"
    context = ReportContext(run, config, manifest, ReportOptions(**options), summary)
    return report_facts(context), report_faces(context)


def hostile(content: Any) -> Any:
    """Replace names everywhere, in keys and inside of texts too."""
    if isinstance(content, Mapping):
        return {hostile(key): hostile(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [hostile(item) for item in content]
    if isinstance(content, str):
        if content in HOSTILE:
            return HOSTILE[content]
        if "elsewhere" in content:
            return content.replace("elsewhere", HOSTILE["elsewhere"])
    return content
