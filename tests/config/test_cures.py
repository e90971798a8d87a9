"""Cures in messages: each `--set key=value` that a message names, pasted behind the faulty settings, makes the config load."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from ssl_pipeline.config.loading import load_config, load_masking
from ssl_pipeline.config.yaml_text import write_yaml
from ssl_pipeline.errors import ConfigError
from tests.config.test_config import VALID

SCHEDULER, LOSS = "teacher.training.scheduler", "teacher.training.loss"

FAULTS = [
    ["teacher.training.accumulation_steps=3"],
    ["teacher.training.num_processes=3"],
    ["teacher.model.pretrained=true", "teacher.model.weights_file=x"],
    ["teacher=[{type: frozen, architecture: resnet18, pretrained: false}]"],
    ["teacher=[{type: onnx, name: a, file: a.onnx}, {type: onnx, name: a, file: b.onnx}]"],
    ["teacher=[{type: onnx, file: a}, {type: features, file: b, weight: 2}]", "selection={type: ensemble_agreement}"],
    ["teacher.model.input_size=96"],
    ["teacher.training.batch_norm=frozen"],
    ["teacher.training.head_start=linear_probe"],
    ["teacher.training.optimizer.frozen_layers=2"],
    ["teacher.model.input_size=20"],
    [f"{SCHEDULER}.warmup_epochs=20"],
    [f"{SCHEDULER}={{type: step, step_epochs: 20}}"],
    [f"{SCHEDULER}={{type: step, step_epochs: 2, warmup_epochs: 3}}"],
    [f"{SCHEDULER}={{type: multi_step, milestones: [5, 3]}}"],
    [f"{SCHEDULER}={{type: multi_step, milestones: [3, 30]}}"],
    [f"{SCHEDULER}={{type: multi_step, milestones: [3, 5], warmup_epochs: 4}}"],
    [f"{SCHEDULER}={{type: cosine_restarts, first_cycle_epochs: 30}}"],
    [f"{SCHEDULER}={{type: one_cycle, warmup_epochs: 3}}"],
    ["teacher.training.optimizer.freeze_backbone_epochs=11"],
    ["teacher.training.optimizer=adam"],
    ["teacher.training.optimizer={weight_decay: 0, momentum: 0}"],
    ["teacher.training.optimizer.momentum=0.5"],
    ["teacher.training.monitor=f1"],
    ["teacher.training.monitor=macrof1"],
    ["teacher.training.monitor=mask.macro_f1"],
    ["teacher.training.monitor=gender.mean_absolute_error"],
    ["teacher.training.monitor=mean_absolute_error"],
    [f"{LOSS}.attribute_weights={{age: 2}}"],
    [
        f"{LOSS}={{type: mixture, terms: [{{weight: 1, loss: {{type: expected_number, attribute: gender}}}}, "
        "{weight: 1, loss: {type: focal}}]}"
    ],
    ["teacher.training.fixmatch={}"],
    ["teacher.training.labeled_fraction=0.5"],
    ["prediction.zooms=[1, 1.2, 1]"],
    ["faces.labeled.drop_side=above"],
    ["faces.labeled.drop_near_bin_edges=1", "labels.attributes.1={name: age, values: [young, old]}"],
    ["faces.labeled.test_sources=[{type: folder, path: x, name: y}]"],
    ["faces.labeled.test_fraction=null"],
    ["faces.unlabeled.sources.0.name=utkface"],
    ["faces.near_duplicates={}", "faces.image_size=16"],
    ["faces.cropping={model: x, detection_sides: [64, 64]}"],
    ["labels.attributes.1={name: age, values: [a, b, c], from_column: age_years, bin_edges: [60, 30]}"],
    ["selection.guards={min_acceptance_rate: 0.9, max_acceptance_rate: 0.5}"],
    ["selection={type: precision_guarantee, align: validation}", "out_of_fold={}"],
    ["selection={type: precision_guarantee}"],
    ["selection={type: precision_guarantee}", "out_of_fold={}", "rounds=2"],
    ["selection={type: precision_guarantee}", "faces.labeled.guarantee_fraction=0.2", "rounds=2"],
    ["selection={type: ensemble_agreement}", "prediction.horizontal_flip=false"],
    ["selection.target=0.7", "out_of_fold={}"],
    ["selection={target: 0.7}", "out_of_fold={}"],
    ["execution.num_cpus_per_shard=2"],
]

MASKS: dict[str, Any] = {
    "masking": [
        {
            "sources": [{"type": "folder", "path": "x"}],
            "out": "masks",
            "landmarks": {"type": "canonical"},
            "per_face": {"wear": 1},
        }
    ]
}
MASK_FAULTS = [
    ["masking.0.per_person={}"],
    ["masking.0.per_face=null"],
    ["masking.0.per_face={wear: 0, incorrect: 0, normal: 0}"],
    ["masking.0.kinds={surgical: 0, three_panel: 0, cloth: 0}"],
    ["masking.0.sources=[{type: folder, path: x}, {type: folder, path: y}]"],
    ["masking.0.landmarks.min_score=0.5", "masking.0.landmarks.model=x"],
]


def cures(message: str) -> list[str]:
    """The overrides that a message names, as a shell would read them."""
    found = re.findall(r"--set ('[^']+'|\S+)", message)
    return [shlex.split(cure.rstrip("?,;.:)"))[0] for cure in found]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: " ".join(fault)[:60])
def test_a_pasted_cure_works(fault: list[str], tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(write_yaml(VALID))
    with pytest.raises(ConfigError) as error:
        load_config(tmp_path / "config.yaml", overrides=fault)
    assert cures(str(error.value))
    for cure in cures(str(error.value)):
        load_config(tmp_path / "config.yaml", overrides=[*fault, cure])


@pytest.mark.parametrize("fault", MASK_FAULTS, ids=lambda fault: " ".join(fault)[:60])
def test_a_pasted_cure_of_a_masked_set_works(fault: list[str], tmp_path: Path) -> None:
    (tmp_path / "masks.yaml").write_text(write_yaml(MASKS))
    with pytest.raises(ConfigError) as error:
        load_masking(tmp_path / "masks.yaml", overrides=fault)
    assert cures(str(error.value))
    for cure in cures(str(error.value)):
        load_masking(tmp_path / "masks.yaml", overrides=[*fault, cure])
