"""Engines: the same probabilities from OpenVINO as from torch, and refusals before any work."""

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_pipeline import Predictor
from ssl_pipeline.cli import main as cli
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import PredictionConfig
from ssl_pipeline.errors import CheckpointError, ConfigError
from ssl_pipeline.evaluation.temperature import TemperatureCalibration
from ssl_pipeline.learning.calibrate import save_calibrated
from ssl_pipeline.learning.device import Compute
from ssl_pipeline.learning.engine import EngineDifference, OpenVinoEngine, find_engine_faults, torch_engine
from ssl_pipeline.learning.predict import CheckpointPredictor, predict_probabilities
from ssl_pipeline.learning.shard_prediction import ShardPrediction
from ssl_pipeline.learning.vote import FeatureHead, Member, Vote
from ssl_pipeline.stages.check import find_faults
from tests.conftest import SPACE
from tests.cycle_config import write_tiny_config
from tests.learning.prediction_support import predictor, random_faces, random_model, save_random_model

TOLERANCE = 5e-5
"""Of a probability in fp32; `benchmarks.engines` saw up to 7e-6."""
VIEWS = {"horizontal_flip": True, "zooms": [1.0, 1.25]}
needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs the extra [openvino]")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated network."""
    folder = tmp_path_factory.mktemp("model")
    plain = predictor(save_random_model(folder / "trained.safetensors"))
    calibration = TemperatureCalibration("attribute", (2.0, 0.7), 60, 50)
    save_calibrated(folder / "best.safetensors", plain.checkpoint, calibration)
    return folder / "best.safetensors"


@pytest.fixture(scope="module")
def with_openvino(checkpoint: Path) -> CheckpointPredictor:
    return predictor(checkpoint, engine="openvino", **VIEWS)


@pytest.fixture
def without_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


@needs_openvino
def test_views_batches_of_any_size_and_calibration_give_the_probabilities_of_torch(
    with_openvino: CheckpointPredictor,
) -> None:
    pixels, by_torch = random_faces(16), replace(with_openvino, engine=torch_engine)
    for rows in (np.arange(16), np.array([5]), np.array([3, 1])):  # in batches of 7, 7 and 2
        found, expected = with_openvino.predict(pixels, rows), by_torch.predict(pixels, rows)
        np.testing.assert_allclose(found, expected, atol=TOLERANCE)
        assert found.dtype == np.float32
    assert with_openvino.predict(pixels, np.arange(0)).shape == (0, SPACE.num_classes)
    uncalibrated = with_openvino.predict_uncalibrated(pixels, np.arange(16))
    assert np.abs(uncalibrated - with_openvino.predict(pixels, np.arange(16))).max() > 0.01
    views = [view.predict_uncalibrated(pixels, np.arange(16)) for view in with_openvino.by_view()]
    assert len(views) == 4
    np.testing.assert_allclose(np.mean(views, axis=0), uncalibrated, atol=TOLERANCE)


@needs_openvino
def test_after_its_first_batch_a_network_is_computed_by_openvino_alone(with_openvino: CheckpointPredictor) -> None:
    pixels, calls = random_faces(4), list[object]()
    expected = with_openvino.predict(pixels, np.arange(4))
    hook = with_openvino.model.register_forward_hook(lambda *arguments: calls.append(arguments))
    np.testing.assert_array_equal(with_openvino.predict(pixels, np.arange(4)), expected)
    hook.remove()
    assert not calls


class MeanColor(torch.nn.Module):
    """Features in place of an embedder's."""

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        return faces.float().mean(dim=(2, 3)) / 255


@needs_openvino
def test_the_networks_of_a_vote_are_computed_by_openvino_and_its_heads_by_torch() -> None:
    weights = torch.randn(SPACE.num_classes, 3, generator=torch.Generator().manual_seed(0))
    head = FeatureHead(
        weights, torch.zeros(SPACE.num_classes), labels=SPACE, head="joint", digest="0", embedder=MeanColor()
    )
    per_attribute = random_model(head="per_attribute", architecture="wrn10_1")
    vote = Vote([Member("network", 2.0, per_attribute), Member("head", 1.0, head)])
    pixels, compute = random_faces(9), Compute.build("cpu", "fp32")
    found, expected = (
        predict_probabilities(
            vote, pixels, np.arange(9), compute=compute, batch_size=4, views=[(1.0, True)], engine=engine
        )
        for engine in (OpenVinoEngine(torch.float32, num_threads=1), torch_engine)
    )
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


@needs_openvino
def test_a_worker_rebuilds_the_engine_and_refuses_another_version(
    with_openvino: CheckpointPredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "pixels.npy", random_faces(4))
    recipe = ShardPrediction(with_openvino, np.load(tmp_path / "pixels.npy", mmap_mode="r"), "identity").recipe()
    assert isinstance(recipe().predictor.engine, OpenVinoEngine)
    monkeypatch.setattr("ssl_pipeline.learning.shard_prediction.version_of_engine", lambda engine: "2020.1")
    with pytest.raises(ConfigError, match=r"has openvino 2020\.1, .* install the same on both"):
        recipe()


@needs_openvino
def test_openvino_reports_nothing_to_its_maker(with_openvino: CheckpointPredictor) -> None:
    assert sys.modules["openvino_telemetry"] is None  # cannot be imported
    from openvino.tools.ovc import telemetry_utils

    assert telemetry_utils.tm.__name__ == "openvino.tools.ovc.telemetry_stub"


@needs_openvino
def test_a_network_that_openvino_cannot_compute_is_refused_with_the_cure(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("No conversion rule\n for aten::odd")

    monkeypatch.setattr("ssl_pipeline.learning.engine._convert", refuse)
    with pytest.raises(
        CheckpointError, match=r"cannot compute this WideResNet \(No conversion rule for aten::odd\).*engine=torch"
    ):
        predictor(checkpoint, engine="openvino").predict(random_faces(2), np.arange(2))


MISSING = "'prediction.engine': the package of openvino is not installed; pip install 'ssl-pipeline[openvino]'"


@pytest.mark.usefixtures("without_package")
def test_without_the_package_prediction_is_refused_before_the_model_is_read() -> None:
    for build in (
        lambda: CheckpointPredictor.load(Path("absent"), PredictionConfig(engine="openvino"), device="cpu"),
        lambda: Predictor("absent.safetensors", engine="openvino", device="cpu"),
    ):
        with pytest.raises(ConfigError) as error:
            build()
        assert str(error.value).startswith(MISSING)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[object]:
    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["ssl-pipeline", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return int(stop.value.code or 0), " ".join(capsys.readouterr().err.split())

    return run


@pytest.mark.usefixtures("without_package")
def test_without_the_package_check_and_predict_refuse(command: object, tmp_path: Path, checkpoint: Path) -> None:
    config = str(write_tiny_config(tmp_path))
    code, message = command("check", config, "--set", "prediction.engine=openvino")
    assert (code, MISSING in message) == (1, True)
    out = tmp_path / "out.csv"
    code, message = command("predict", str(checkpoint), str(tmp_path), "--out", str(out), "--engine", "openvino")
    assert (code, MISSING in message, out.exists()) == (1, True, False)


@pytest.mark.usefixtures("without_package")
def test_without_the_package_a_run_is_refused_before_its_work(tmp_path: Path) -> None:
    path = write_tiny_config(tmp_path)
    assert [
        fault for fault in find_faults(load_config(path, overrides=["prediction.engine=openvino"])) if MISSING in fault
    ]
    assert not find_faults(load_config(path))


def test_a_gpu_is_refused() -> None:
    (fault,) = [fault for fault in find_engine_faults("openvino", device="cuda") if "device" in fault]
    assert "openvino predicts on a CPU, and the device is cuda" in fault
    assert "--set prediction.engine=torch" in fault
    assert not find_engine_faults("torch", device="cuda")


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_config_of_a_gpu_and_openvino_contradicts_itself(tmp_path: Path, device: str) -> None:
    path = write_tiny_config(tmp_path)
    with pytest.raises(
        ConfigError, match=rf"openvino predicts on a CPU, and device is {device}; --set prediction\.engine"
    ):
        load_config(path, overrides=["prediction.engine=openvino", f"device={device}"])


def test_torch_is_no_part_of_a_record_so_that_earlier_runs_stay_finished() -> None:
    assert PredictionConfig().fingerprint_fields() == {
        "shard_size": 4096,
        "horizontal_flip": True,
        "zooms": (1.0,),
        "precision": "auto",
    }
    assert PredictionConfig(engine="openvino").fingerprint_fields()["engine"] == "openvino"


@pytest.mark.parametrize(("precision", "allowed"), [("fp32", 1e-3), ("bf16", 0.1)])
def test_a_difference_beyond_rounding_is_refused(precision: str, allowed: float) -> None:
    EngineDifference(8, 0.0, allowed).check("openvino", precision)
    for difference in (1.1 * allowed, float("nan")):
        with pytest.raises(
            CheckpointError, match=r"openvino's probabilities differ from torch's by up to .*engine=torch"
        ):
            EngineDifference(8, 0.0, difference).check("openvino", precision)
