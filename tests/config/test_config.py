"""Loading configs: exact messages of faults, overrides, extends, round trip."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ssl_pipeline.config import messages
from ssl_pipeline.config.loading import dump_config, load_config
from ssl_pipeline.config.optimization import Sgd
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import ConfigError
from tests.cycle_config import write_tiny_config

VALID: dict[str, Any] = {
    "run_name": "test",
    "labels": {
        "attributes": [
            {"name": "gender", "values": ["male", "female"]},
            {"name": "age", "values": ["<30", ">=30"], "from_column": "age_years", "bin_edges": [30]},
        ]
    },
    "faces": {
        "labeled": {"sources": [{"type": "utkface", "path": "utkface"}], "test_fraction": 0.3},
        "unlabeled": {"sources": [{"type": "folder", "path": "pool"}]},
    },
    "teacher": {"model": {"architecture": "resnet10t"}, "training": {"epochs": 10}},
    "student": {"model": {"architecture": "wrn16_2"}, "training": {"epochs": 10}},
    "selection": {"type": "fixed_threshold"},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(VALID))
    return tmp_path / "config.yaml"


def test_the_valid_config_loads_and_reads_back_equal(path: Path) -> None:
    config = load_config(path)
    assert config.labels.space.num_classes == 4
    path.write_text(dump_config(config))
    assert load_config(path) == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("teacher.training.epoch=3", "unknown key 'teacher.training.epoch'; did you mean 'epochs'?"),
        ("selection.threshold=0.9", "unknown key 'selection.threshold'; did you mean 'confidence_threshold'?"),
        ("faces.labeled.sources.0.pth=x", "unknown key 'faces.labeled.sources.0.pth'; did you mean 'path'?"),
        (
            "prediction.zzz=1",
            "unknown key 'prediction.zzz'; known here: shard_size, batch_size, horizontal_flip, zooms, precision",
        ),
        ("teacher.training.epochs=ten", "'teacher.training.epochs': expected a whole number, got 'ten'"),
        ("teacher.training.epochs=0", "'teacher.training.epochs': expected greater than or equal to 1, got 0"),
        ("student.model.architecture=18", "'student.model.architecture': expected text, got 18; quote it"),
        ("teacher.model.head=both", "'teacher.model.head': expected 'joint' or 'per_attribute', got 'both'"),
        (
            "selection.type=fixed_treshold",
            "'selection.type': expected one of ['fixed_threshold', 'balanced_top_k', 'percentile_curriculum', "
            "'self_adaptive', 'gaussian_weights', 'ensemble_agreement', 'precision_guarantee'], got 'fixed_treshold'; did you mean 'fixed_threshold'?",
        ),
        (
            "teacher.training.loss={gamma: 2}",
            "'teacher.training.loss': missing 'type'; expected one of ['cross_entropy', 'focal', 'f1', 'mixture'], got {'gamma': 2}",
        ),
        ("faces.unlabeled.sources=[]", "'faces.unlabeled.sources': expected at least 1 of them, got []"),
        (
            "selection={type: precision_guarantee, align: validation}",
            "'selection': align: validation would adapt the predictions to the faces that test the guarantee; "
            "--set selection.align=training or --set selection.align=none",
        ),
        ("selection={type: precision_guarantee, target: 1}", "'selection.target': expected less than 1, got 1"),
        (
            "selection={type: self_adaptive, guards: {on_fault: ignore}}",
            "'selection.guards.on_fault': expected 'stop' or",
        ),
        ("selection={type: balanced_top_k}", "'selection.k': missing; it has no default"),
        (
            "run_name=../../etc",
            "'run_name': expected up to 100 letters, digits, '.', '_' or '-', the first a letter or digit, e.g. first-run, got '../../etc'",
        ),
        (
            "faces.labeled.test_sources=[{type: folder, path: x}]",
            "'faces.labeled': the test split comes from test_fraction or from test_sources: give exactly one of them",
        ),
        (
            "teacher.training.accumulation_steps=3",
            "'teacher.training': batch_size 64 must be a multiple of accumulation_steps 3",
        ),
        (
            "teacher.training.scheduler={type: cosine, warmup_epochs: 10}",
            "warmup_epochs 10 must be less than epochs 10; --set teacher.training.scheduler.warmup_epochs=1",
        ),
        (
            "faces.unlabeled.sources.0={type: utkface, path: elsewhere}",
            "sources need different names, since image ids begin with them; used twice: ['utkface']",
        ),
        ("student.model={architecture: a, pretrained: true, weights_file: b}", "give one of them"),
        ("selection.guards.min_acceptance_rate=0.9", None),
        ("selection.guards={min_acceptance_rate: 0.9, max_acceptance_rate: 0.5}", "exceeds"),
        ("labels.attributes.1.bin_edges=[30, 60]", "'labels.attributes.1': 2 values need 1 bin_edges, got 2"),
        ("labels.attributes.0.name=split", "the name 'split' is reserved for a column of the tables"),
        ("labels.attributes.0.name=status", "the name 'status' is reserved for a column of the tables"),
        ("teacher.training.labeled_fraction=0.5", "the teacher trains on human labels only"),
        ("faces.labeled.drop_near_bin_edges=0", "expected greater than 0, got 0"),
        ("faces.labeled.drop_side=below", "drop_side below has no effect without drop_near_bin_edges"),
        ("faces.corrections=3", "'faces.corrections.0': expected text, got 3; quote it"),
        (
            "faces.labeled.sources.0={type: fairface, path: x, subsets: [test]}",
            "'faces.labeled.sources.0.subsets.0': expected 'train' or 'val', got 'test'",
        ),
        ("faces.labeled.sources.0={type: lfw, path: x, age: real}", "unknown key 'faces.labeled.sources.0.age'"),
        (
            "student.training.loss={type: focal, class_weights: {child: -1}}",
            "'student.training.loss.class_weights.child': expected greater than 0, got -1",
        ),
        ("nonsense", "'nonsense': expected dotted.key=value, e.g. --set teacher.training.epochs=5"),
        ("run_name.x=1", "there is no 'x' to set in 'test'"),
        ("faces.labeled.sources.7.path=x", "there is no '7' to set a value in"),
    ],
)
def test_a_fault_is_reported_with_key_value_and_cure(path: Path, override: str, message: str | None) -> None:
    if message is None:
        load_config(path, overrides=[override])
        return
    with pytest.raises(ConfigError) as error:
        load_config(path, overrides=[override])
    assert message in str(error.value)


RENAMED_KEYS = [
    ("labels.attributes.1.borders=[30]", "bin_edges"),
    ("faces.labeled.drop_near_borders=1", "drop_near_bin_edges"),
    ("student.training.consistency={}", "fixmatch"),
    ("student.training.human_share=0.4", "labeled_fraction"),
    ("student.training.strong={num_ops: 1}", "randaugment"),
    ("calibration.min_faces=50", "min_persons"),
    ("selection.guards.flooded_above=2", "max_share_ratio"),
    ("selection.guards.starved_below=0.1", "min_share_ratio"),
    ("selection.guards.worse_than_majority=false", "worse_than_chance"),
]


@pytest.mark.parametrize(("override", "new"), RENAMED_KEYS)
def test_a_renamed_key_is_refused_with_its_new_name(path: Path, override: str, new: str) -> None:
    key = override.partition("=")[0]
    with pytest.raises(ConfigError) as error:
        load_config(path, overrides=["calibration.type=temperature", override])
    assert str(error.value) == f"{path}: 1 fault\n  '{key}' is now called '{new}'"


@pytest.mark.parametrize(
    ("old", "new"), [("agreement", "ensemble_agreement"), ("promised_precision", "precision_guarantee")]
)
def test_a_renamed_type_is_refused_with_its_new_name(path: Path, old: str, new: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(path, overrides=[f"selection.type={old}"])
    assert str(error.value) == f"{path}: 1 fault\n  'selection.type': '{old}' is now called '{new}'"


def test_every_renamed_key_is_tested() -> None:
    tested = {override.partition("=")[0].rpartition(".")[2]: new for override, new in RENAMED_KEYS}
    assert tested == messages._RENAMED_KEYS


def test_drop_near_bin_edges_needs_an_attribute_with_bin_edges_in_years(path: Path) -> None:
    overrides = ["faces.labeled.drop_near_bin_edges=1", "labels.attributes.1={name: age, values: [young, old]}"]
    with pytest.raises(ConfigError, match=r"faces\.labeled\.drop_near_bin_edges: no attribute has bin_edges in years"):
        load_config(path, overrides=overrides)
    load_config(path, overrides=overrides[:1])


def test_corrections_are_one_path_or_several(path: Path) -> None:
    for value, expected in (("a.csv", ["a.csv"]), ("[a.csv, b.csv]", ["a.csv", "b.csv"])):
        config = load_config(path, overrides=[f"faces.corrections={value}", "faces.root=/faces"])
        assert config.faces.correction_paths == tuple(Path("/faces") / name for name in expected)


def test_all_faults_are_reported_at_once(path: Path) -> None:
    overrides = ["seed=-1", "rounds=x", "labels.attributs=1", "teacher.training.optimizer={type: adam}"]
    with pytest.raises(ConfigError) as error:
        load_config(path, overrides=overrides)
    message = str(error.value)
    assert message.startswith(f"{path}: 4 faults\n")
    assert all(
        part in message for part in ("'seed'", "'rounds'", "'labels.attributs'; did you mean 'attributes'?", "'adam'")
    )


def test_all_unknown_attributes_and_classes_are_reported_at_once(path: Path) -> None:
    overrides = [
        "teacher.training.monitor=gender.mean_absolute_error",
        "student.training.monitor=mask.macro_f1",
        "student.training.loss={type: mixture, terms: [{weight: 1, loss: {type: expected_number, attribute: gender}}, "
        "{weight: 1, loss: {type: focal, class_weights: {child: 2, elder: 3}}}]}",
    ]
    with pytest.raises(ConfigError) as error:
        load_config(path, overrides=overrides)
    message = str(error.value)
    assert "5 faults" in message
    for fault in (
        "teacher.training.monitor: 'gender.mean_absolute_error': attribute 'gender' has no bins of a number",
        "student.training.monitor: 'mask.macro_f1': no attribute 'mask'",
        "student.training.loss.terms.0.loss.attribute: expected an attribute with from_column and bin_edges, got 'gender'",
        "student.training.loss.terms.1.loss.class_weights.child: unknown name",
        "student.training.loss.terms.1.loss.class_weights.elder: unknown name",
    ):
        assert fault in message


def test_unknown_attributes_and_sources_are_named(path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(path, overrides=["faces.labeled.sources.0.derived=[hat]", "gate.metric=f3"])
    assert "'gate.metric': expected 'macro_f1' or 'accuracy', got 'f3'" in str(error.value)
    with pytest.raises(
        ConfigError, match=r"source '\w+': derived: no attribute \['hat'\]; the attributes: gender, age"
    ):
        load_config(path, overrides=["faces.labeled.sources.0.derived=[hat]"])
    with pytest.raises(ConfigError, match=r"hide_labels: no source \['nobody'\] in the pool"):
        load_config(path, overrides=["faces.unlabeled.hide_labels={nobody: [age]}"])


def test_a_level_that_would_be_ignored_is_refused_with_the_nearest_name(path: Path) -> None:
    key = "faces.unlabeled.sources.0"
    with pytest.raises(ConfigError) as error:
        load_config(path, overrides=[f"{key}.levels=[person, gendr, split, _, gender]"])
    assert "source 'folder': level 'person' would be ignored; did you mean 'person_id'?" in str(error.value)
    assert "level 'gendr' would be ignored; did you mean 'gender'?" in str(error.value)
    assert "level 'split' would be ignored; expected one of person_id, age_years" in str(error.value)
    mapped = load_config(path, overrides=[f"{key}.levels=[sex, _]", f"{key}.columns={{gender: sex}}"])
    assert mapped.faces.unlabeled.sources[0].columns == {"gender": "sex"}


def test_overrides_are_yaml_and_reach_into_lists(path: Path) -> None:
    config = load_config(
        path,
        overrides=[
            "teacher.training.optimizer={type: adamw, learning_rate: 3e-4}",
            "faces.labeled.sources.0.limit=5",
            "prediction.shard_size=7",
        ],
        run_name="other",
    )
    assert config.teacher.training.optimizer.learning_rate == 3e-4
    assert config.faces.labeled.sources[0].limit == 5
    assert (config.prediction.shard_size, config.run_name) == (7, "other")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "config.yaml: no such config file"),
        ("a: [", "not YAML: line 1, column 5: "),
        ("- 1", "expected sections such as 'labels:' and 'faces:', got [1]"),
        ("", "got None"),
    ],
)
def test_a_file_that_is_not_a_config_is_refused(path: Path, content: str | None, message: str) -> None:
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert message in str(error.value)


def test_a_list_with_only_invalid_items_is_not_reported_as_too_short(path: Path) -> None:
    with pytest.raises(ConfigError, match="1 fault") as error:
        load_config(path, overrides=["faces.unlabeled.sources=[{path: x}]"])
    assert "missing 'type'; expected one of ['drawn', 'folder'," in str(error.value)


def test_a_loaded_config_is_immutable(path: Path) -> None:
    config = load_config(path)
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3  # type: ignore[misc]


@pytest.mark.parametrize("shipped", sorted(Path("configs").rglob("*.yaml")), ids=str)
def test_every_shipped_config_loads_and_starts_with_its_purpose(shipped: Path, tmp_path: Path) -> None:
    config = shipped
    if shipped.parent.name == "presets":  # they are extended with labels and faces
        demo = yaml.safe_load(Path("configs/demo.yaml").read_text())
        own = {"extends": f"presets/{shipped.stem}", "run_name": "mine"} | {
            key: demo[key] for key in ("labels", "faces")
        }
        config = tmp_path / "mine.yaml"
        config.write_text(yaml.safe_dump(own))
    assert isinstance(load_config(config), RunConfig)
    head = shipped.read_text().splitlines()[:4]
    assert [line.split(":")[0] for line in head] == ["# Purpose", "# Data", "# Command", "# Expect"]


def test_a_config_is_merged_into_the_one_that_it_extends(tmp_path: Path) -> None:
    base = write_tiny_config(tmp_path)
    (tmp_path / "over").mkdir()
    over = tmp_path / "over/mine.yaml"
    over.write_text("extends: ../tiny.yaml\nrun_name: mine\nteacher: {training: {epochs: 7, optimizer: {type: sgd}}}\n")
    extended, mine = load_config(base), load_config(over)
    assert mine.run_name == "mine"
    assert mine.teacher.training.epochs == 7
    assert mine.teacher.training.batch_size == extended.teacher.training.batch_size
    assert mine.teacher.training.optimizer == Sgd(type="sgd")  # no key of the base's adamw is left
    assert mine.student == extended.student


def test_of_several_configs_that_one_extends_later_ones_win(tmp_path: Path) -> None:
    write_tiny_config(tmp_path)
    (tmp_path / "over.yaml").write_text("run_name: over\nteacher: {training: {epochs: 7}}\n")
    (tmp_path / "mine.yaml").write_text("extends: [tiny.yaml, over.yaml]\nseed: 5\n")
    mine, base = load_config(tmp_path / "mine.yaml"), load_config(tmp_path / "tiny.yaml")
    assert (mine.seed, mine.run_name, mine.teacher.training.epochs) == (5, "over", 7)
    assert mine.teacher.training.batch_size == base.teacher.training.batch_size
    assert mine.student == base.student


def test_a_config_that_extends_itself_or_a_missing_file_is_refused(tmp_path: Path) -> None:
    for name, base in (("a", "b.yaml"), ("b", "a.yaml"), ("c", "absent.yaml"), ("d", "[1]"), ("e", "false")):
        (tmp_path / f"{name}.yaml").write_text(f"extends: {base}\n")
    for name, message in (
        ("a", "extends itself"),
        ("c", "absent.yaml: no such config"),
        ("d", "expected the path"),
        ("e", "expected the path"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_config(tmp_path / f"{name}.yaml")


def test_a_run_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "named.yaml"
    path.write_text(yaml.safe_dump(VALID))
    assert load_config(path, overrides=["run_name=mine"], run_name="mine").run_name == "mine"
    with pytest.raises(ConfigError, match="the run is named twice: 'mine', and 'run_name=yours' in overrides"):
        load_config(path, overrides=["run_name=yours"], run_name="mine")
