"""Which stages work again: a table over every key of the config, and which outputs a stage refuses to read."""

import re
import shutil
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ssl_pipeline.config.base import Section
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import PipelineError, ReviewPending, RunError, SelectionError
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import read_json, write_json
from ssl_pipeline.runs.records import StageRecord
from ssl_pipeline.stages.cross_fit import train_fold_teachers
from ssl_pipeline.stages.evaluate import evaluate
from ssl_pipeline.stages.finish import RoundOutcome, finish
from ssl_pipeline.stages.predict import predict
from ssl_pipeline.stages.prepare import prepare
from ssl_pipeline.stages.review import ask_review, assess_shift, digest_selection, selection_inputs
from ssl_pipeline.stages.round_faces import RoundFaces
from ssl_pipeline.stages.selection import changed_label_share, select
from ssl_pipeline.stages.teachers import train_teacher
from ssl_pipeline.stages.train import train_student
from ssl_pipeline.stages.versions import VERSIONS
from tests.cycle_config import write_tiny_config
from tests.stages.stub_stages import StubStages, replace_in_stages, run_cycle

FULL = [
    "out_of_fold={num_folds: 3}",
    "selection={type: precision_guarantee}",
    "calibration={type: temperature}",
    "student.training.fixmatch={}",
    "student.training.mixing={type: mixup}",
    "student.draws={}",
]
"""Sections that the tiny config lacks."""

# Stages, by the inputs that their records name. A stage also works again if one before it gives other outputs.
FACES, TRAIN, FOLDS, OUT_OF_FOLD = {"faces"}, {"teacher"}, {"fold teachers"}, {"out of fold"}
TEACHERS, CALIBRATE = TRAIN | FOLDS, {"calibrate"}
PREDICT, SHIFT, DRAWS, SELECT = {"predict"}, {"shift"}, {"draws"}, {"select"}
ENGINE = {"engine"}  # compared with torch's; only of another engine
STUDENT, EVALUATE = {"student"}, {"evaluate"}
MODELS = TEACHERS | STUDENT
EVERY = FACES | MODELS | CALIBRATE | OUT_OF_FOLD | PREDICT | SHIFT | DRAWS | SELECT | EVALUATE

# Key, as a regular expression over the whole dotted key → stages with the key among their inputs. First match counts.
TABLE = {
    r"(teacher|student)\.training\.save_every_steps": set(),
    r"teacher\.(name|weight)": set(),  # of one among several: test_teachers.py
    r"teacher\.model\.(architecture|head|input_size)": TEACHERS | STUDENT,  # whether the student starts from it
    r"teacher\..*": TEACHERS,
    r"student\.draws\..*": DRAWS | STUDENT,
    r"student\..*": STUDENT,
    r"faces\.labeled\.guarantee_fraction": FACES | PREDICT | SHIFT,  # who labels the pool
    r"faces\..*": FACES,
    r"labels\..*": FACES | MODELS | SELECT,
    r"seed": FACES | MODELS | OUT_OF_FOLD | SHIFT | DRAWS,
    r"run_name": SELECT,
    r"prediction\.batch_size": set(),
    r"prediction\.shard_size": PREDICT | SHIFT,
    r"prediction\.engine": CALIBRATE | OUT_OF_FOLD | PREDICT | SHIFT | EVALUATE | ENGINE,
    r"prediction\.precision": CALIBRATE | OUT_OF_FOLD | PREDICT | SHIFT | EVALUATE | DRAWS,
    r"prediction\..*": CALIBRATE | OUT_OF_FOLD | PREDICT | SHIFT | EVALUATE,
    r"calibration\..*": CALIBRATE | OUT_OF_FOLD | SELECT,
    r"out_of_fold\..*": FOLDS | OUT_OF_FOLD | PREDICT | SHIFT,
    r"selection\..*": SELECT,
    r"shift\.max_faces": SHIFT,
    r"shift\.strong_auc": SELECT,
    r"(runs_root|rounds|min_changed_labels|review|control|masking|storage|track|profile|device)": set(),  # the device: see below
    r"(gate|execution)\..*": set(),
}


def stage_of(directory: str) -> str:
    """The stage of a directory of the run."""
    for pattern, name in (
        ("faces", "faces"),
        (r"round-00/teacher", "teacher"),
        (r"round-\d\d/(teacher|student)/calibration", "calibrate"),
        (r"round-00/teacher-without-fold-\d+", "fold teachers"),
        (r"round-00/out_of_fold", "out of fold"),
        (r"round-\d\d/pseudo_labels/(predictions|held_out).*", "predict"),
        (r"round-\d\d/pseudo_labels/shift", "shift"),
        (r"round-\d\d/pseudo_labels/engine", "engine"),
        (r"round-\d\d/pseudo_labels/draws", "draws"),
        (r"round-\d\d/pseudo_labels", "select"),
        (r"round-\d\d/student", "student"),
        (r".*/(validation|test)", "evaluate"),
    ):
        if re.fullmatch(pattern, directory):
            return name
    raise AssertionError(f"{directory}: a stage that this table does not know")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunConfig, RunDir]]:
    """A finished run of stub stages."""
    config = load_config(write_tiny_config(tmp_path_factory.mktemp("base")), overrides=FULL)
    run = RunDir(config.runs_root / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        StubStages().install(patch)
        run_cycle(config, run)
    yield config, run


@pytest.fixture
def copied(base: tuple[RunConfig, RunDir], tmp_path: Path) -> tuple[RunConfig, RunDir]:
    shutil.copytree(base[1].root, tmp_path / "tiny")
    return base[0], RunDir(tmp_path / "tiny")


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> StubStages:
    return StubStages().install(monkeypatch)


class Plan(StubStages):
    """Collects the inputs of each stage; nothing works, and files stay as the base run left them."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: dict[str, Any] = {}

    def install(self, monkeypatch: pytest.MonkeyPatch) -> "Plan":
        super().install(monkeypatch)
        cached = lru_cache(read_faces)
        for module in ("cross_fit", "round_faces", "evaluate"):
            monkeypatch.setattr(f"ssl_pipeline.stages.{module}.read_faces", cached)
        monkeypatch.setattr("ssl_pipeline.runs.records.changed_values", lambda *_: {})  # the settings do change
        for check in ("check_selected", "check_accepted"):
            monkeypatch.setattr(f"ssl_pipeline.stages.train.{check}", lambda *_: None)
        return self

    def run_stage(self, directory: Path, *, version: int, inputs: Any, **_: Any) -> StageRecord:  # type: ignore[override]
        from ssl_pipeline.runs.records import _plain

        name = directory.as_posix().split("/tiny/")[-1]
        self.inputs[name] = _plain({**inputs, "version": version})
        if stage_of(name) == "engine":  # which the base run, by torch, lacks
            return StageRecord(inputs={}, outputs={}, as_written={}, seconds=0.0, result={})
        return StageRecord.read(directory)

    def of(self, config: RunConfig, run: RunDir) -> dict[str, Any]:
        """The inputs of every stage of a cycle."""
        self.inputs = {}
        prepare(config, run)
        train_teacher(config, run)
        train_fold_teachers(config, run)
        predict(config, run, 1, run.teacher / "best.safetensors")
        select(config, run, 1)
        train_student(config, run, 1)
        evaluate(config, run, run.teacher, "validation")
        return self.inputs


def leaves(section: Section, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of every key below a section."""
    for name in type(section).model_fields:
        value, key = getattr(section, name), f"{prefix}{name}"
        if isinstance(value, Section):
            yield from leaves(value, f"{key}.")
        elif name != "type":
            yield key, value


def with_value(section: Any, key: str, value: Any) -> Any:
    """Copy a section with another value, unchecked."""
    name, _, rest = key.partition(".")
    return section.model_copy(update={name: with_value(getattr(section, name), rest, value) if rest else value})


SPECIAL_VALUES: dict[str, Callable[[Any], Any]] = {
    "device": lambda value: "cpu",
    "labels.attributes": lambda value: value[::-1],
    "out_of_fold.num_folds": lambda value: value - 1,
    "prediction.engine": lambda value: "openvino",
    "teacher.model.weights_file": lambda value: Path(__file__),  # any file: its content counts, not its name
    "student.model.weights_file": lambda value: Path(__file__),
}


def other_value(key: str, value: Any) -> Any:
    if key in SPECIAL_VALUES:
        return SPECIAL_VALUES[key](value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1 if isinstance(value, int) else value / 2 + 0.0625
    if isinstance(value, str):
        return f"{value}x"
    if isinstance(value, Path):
        return value / "other"
    if key.endswith("zooms"):
        return (1.0, 1.5)
    if isinstance(value, dict):
        return {"gender": 0.5}
    return 3 if value is None else () if value else ("other.csv",)


def differing(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {stage_of(name) for name in {*before, *after} if before.get(name) != after.get(name)}


@pytest.mark.filterwarnings("ignore::UserWarning")  # unchecked values do not fit the fields
def test_a_changed_key_repeats_exactly_the_stages_that_depend_on_it(
    base: tuple[RunConfig, RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = base
    plan, wrong, used = Plan().install(monkeypatch), [], set()
    before = plan.of(config, run)
    for key, value in leaves(config):
        row = next((row for row in TABLE if re.fullmatch(row, key)), None)
        assert row is not None, f"{key}: no row in TABLE; say which stages depend on it"
        used.add(row)
        after = plan.of(with_value(config, key, other_value(key, value)), run)
        if (found := differing(before, after)) != TABLE[row]:
            wrong.append(f"{key}: expected {sorted(TABLE[row])}, got {sorted(found)}")
    assert not wrong, "\n".join(wrong)
    assert used == set(TABLE)


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    return Plan().install(monkeypatch)


def test_another_device_repeats_all_that_a_network_computes(
    base: tuple[RunConfig, RunDir], plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = base
    before = plan.of(config, run)
    replace_in_stages(monkeypatch, "resolve_device", lambda device: torch.device("cuda"))
    assert (
        differing(before, plan.of(config, run)) == MODELS | CALIBRATE | OUT_OF_FOLD | PREDICT | SHIFT | EVALUATE | DRAWS
    )


@pytest.mark.parametrize(
    ("stage", "repeated"),
    [
        ("prepare", FACES),
        ("train", MODELS),
        ("calibrate", CALIBRATE),
        ("cross_fit", OUT_OF_FOLD),
        ("predict", PREDICT),
        ("shift", SHIFT),
        ("select", SELECT),
        ("evaluate", EVALUATE),
    ],
)
def test_another_version_of_a_stages_code_repeats_it(
    base: tuple[RunConfig, RunDir], plan: Plan, monkeypatch: pytest.MonkeyPatch, stage: str, repeated: set[str]
) -> None:
    config, run = base
    before, decided = plan.of(config, run), digest_selection(selection_inputs(config, run, 1))
    monkeypatch.setitem(VERSIONS, stage, VERSIONS[stage] + 1)
    assert differing(before, plan.of(config, run)) == repeated
    changed = digest_selection(selection_inputs(config, run, 1)) != decided
    assert changed == (stage == "select")  # a person decides again


@pytest.mark.parametrize(
    ("overrides", "repeated"),
    [
        ([], set()),
        (["seed=1"], EVERY),
        (["teacher.training.epochs=9"], EVERY - FACES),
        (["student.training.epochs=9"], STUDENT | CALIBRATE | EVALUATE),
        (["calibration.min_persons=20"], EVERY - FACES - MODELS - DRAWS | STUDENT),
        (["selection.target=0.7"], SELECT | STUDENT | CALIBRATE | EVALUATE),
        (["shift.strong_auc=0.55"], SELECT | STUDENT | CALIBRATE | EVALUATE),
        (["shift.max_faces=100"], SHIFT | SELECT | STUDENT | CALIBRATE | EVALUATE),
        (["prediction.batch_size=9", "teacher.training.save_every_steps=2"], set()),
    ],
)
def test_a_stage_works_again_after_the_stages_that_it_reads(
    copied: tuple[RunConfig, RunDir], stub: StubStages, overrides: list[str], repeated: set[str], tmp_path: Path
) -> None:
    _, run = copied
    config = load_config(write_tiny_config(tmp_path), overrides=[*FULL, *overrides])
    config = config.model_copy(update={"faces": copied[0].faces})
    run_cycle(config, run)
    assert {stage_of(name) for name in stub.worked} == repeated
    run_cycle(config, run)
    assert len(stub.worked) == len(set(stub.worked))  # nothing a second time


Read = Callable[[RunConfig, RunDir], object]
READERS: dict[str, tuple[str, Read]] = {
    "train on the faces": ("faces/labeled.parquet", train_teacher),
    "fold teachers on the faces": ("faces/pixels.npy", train_fold_teachers),
    "predict with the fold teachers": (
        "round-00/out_of_fold/fold-1.safetensors",
        lambda config, run: predict(config, run, 1, run.teacher / "best.safetensors"),
    ),
    "predict with the student": (
        "round-01/student/best.safetensors",
        lambda config, run: predict(config, run, 2, run.student(1) / "best.safetensors"),
    ),
    "select from predictions": (
        "round-01/pseudo_labels/predictions/fold-0/part-00000.parquet",
        lambda config, run: select(config, run, 1),
    ),
    "select by held-out predictions": (
        "round-01/pseudo_labels/held_out/fold-1/part-00000.parquet",
        lambda config, run: select(config, run, 1),
    ),
    "train on the manifest": (
        "round-01/pseudo_labels/manifest.parquet",
        lambda config, run: train_student(config, run, 1),
    ),
    "train on the manifest by its name": (
        "round-01/pseudo_labels/manifest.parquet",
        lambda config, run: train_student(
            config, run, 1, run.root / "round-00/../round-01/pseudo_labels/manifest.parquet"
        ),
    ),
    "compare manifests": (
        "round-01/pseudo_labels/manifest.parquet",
        lambda config, run: changed_label_share(config, run, 2),
    ),
    "ask a person": ("round-01/pseudo_labels/manifest.parquet", lambda config, run: ask_review(config, run, 1)),
    "evaluate": (
        "round-00/teacher/best.safetensors",
        lambda config, run: evaluate(config, run, run.teacher, "test"),
    ),
    "finish": (
        "round-01/pseudo_labels/selection.json",
        lambda config, run: finish(config, run, [RoundOutcome(1)]),
    ),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("state", ["unfinished", "edited", "removed"])
def test_a_stage_reads_only_what_finished_and_was_left_as_it_was(
    copied: tuple[RunConfig, RunDir], stub: StubStages, reader: str, state: str
) -> None:
    config, run = copied
    file, read = READERS[reader]
    path = run.root / file
    if state == "unfinished":
        record = path.parent / ("calibration" if path.name == "best.safetensors" else ".") / "done.json"
        record.unlink()
    elif state == "edited":
        path.write_text("edited")
    else:
        path.unlink()
    message = {
        "unfinished": "has not finished",
        "edited": "changed since",
        "removed": "removed since|no such checkpoint",
    }
    with pytest.raises(PipelineError, match=message[state]):
        read(config, run)
    assert not [name for name in stub.worked if (run.root / name).is_relative_to(path.parent)]
    if state == "edited":
        assert path.read_text() == "edited"


def test_a_student_is_not_trained_on_a_selection_of_other_settings(
    copied: tuple[RunConfig, RunDir], stub: StubStages
) -> None:
    config, run = copied
    other = config.model_copy(update={"selection": config.selection.model_copy(update={"target": 0.7})})
    with pytest.raises(
        RunError, match=r"made with other settings \(selection\.target\); .*select again: ssl-pipeline run"
    ):
        train_student(other, run, 1)
    select(other, run, 1)
    train_student(other, run, 1)


def test_a_manifest_of_ones_own_is_trained_on_unless_a_guard_refused_it(
    copied: tuple[RunConfig, RunDir], stub: StubStages, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config, run = copied
    mine = tmp_path / "mine.parquet"
    mine.write_text("mine")
    assert not train_student(config, run, 1, mine).skipped
    refused = SimpleNamespace(selection={"faults": ["accepted nothing"], "shift": None})
    monkeypatch.setattr("ssl_pipeline.stages.train.open_manifest", lambda path: refused)
    with pytest.raises(SelectionError, match="accepted nothing"):
        train_student(config, run, 1, mine)


def test_a_review_is_not_evaded_by_naming_the_rounds_manifest(
    copied: tuple[RunConfig, RunDir], stub: StubStages
) -> None:
    config, run = copied
    waiting = config.model_copy(update={"review": "wait"})
    with pytest.raises(ReviewPending):
        train_student(waiting, run, 1, run.pseudo_labels(1) / "manifest.parquet")


def test_fold_teachers_predict_also_if_the_teacher_is_named_by_another_path(
    copied: tuple[RunConfig, RunDir], stub: StubStages, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = copied
    monkeypatch.chdir(run.root.parent)
    for root, named in ((run.root, Path("tiny")), (Path("tiny"), run.root)):
        predict(config, RunDir(root), 1, named / "round-00/teacher/best.safetensors")
        assert RoundFaces(config, run, 1).labels_in_parts


def test_edited_pseudo_labels_are_never_overwritten(copied: tuple[RunConfig, RunDir], stub: StubStages) -> None:
    config, run = copied
    manifest = run.pseudo_labels(1) / "manifest.parquet"
    manifest.write_text("edited by hand")
    other = config.model_copy(update={"selection": config.selection.model_copy(update={"target": 0.7})})
    for settings in (config, other):
        with pytest.raises(
            RunError, match=r"manifest\.parquet: changed since .* would be overwritten; to keep your version"
        ):
            select(settings, run, 1)
    assert manifest.read_text() == "edited by hand"


def test_other_faces_repeat_every_stage_that_reads_them(
    base: tuple[RunConfig, RunDir], plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = base
    before = plan.of(config, run)
    replace_in_stages(monkeypatch, "faces_digest", lambda *_: "other faces")
    assert differing(before, plan.of(config, run)) == EVERY - FACES


@pytest.mark.parametrize(("auc", "error", "strong"), [(0.6, 0.049, True), (0.6, 0.051, False), (0.59, 0.01, False)])
def test_shift_is_strong_only_two_standard_errors_above_chance(
    copied: tuple[RunConfig, RunDir], auc: float, error: float, strong: bool
) -> None:
    config, run = copied
    path = run.pseudo_labels(1) / "shift/done.json"
    record = read_json(path)
    write_json(path, {**record, "result": {**record["result"], "auc": auc, "standard_error": error}})
    shift = assess_shift(config, run, 1)
    assert shift is not None and shift["strong"] == strong
