"""`ssl-pipeline embed`: features of a folder, in a table that a teacher of type features reads."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from ssl_pipeline.cli.main import app
from ssl_pipeline.errors import ConfigError
from ssl_pipeline.faces.feature_table import features_of_faces
from tests.learning.prediction_support import write_images
from tests.learning.tiny_onnx import write_mean_color

pytest.importorskip("cv2")


def test_a_folder_is_embedded_and_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    images = write_images(tmp_path / "faces", ["a.png", "sub/b.png", "c.png"], size=32)
    (tmp_path / "faces/bad.jpg").write_bytes(b"\xff\xd8\xff no image")
    network, out = write_mean_color(tmp_path / "mean.onnx", size=16), tmp_path / "features.parquet"
    options = [
        "--onnx",
        str(network),
        "--image-size",
        "16",
        "--mean",
        "0,0,0",
        "--std",
        "1,1,1",
        "--center-crop",
        "0.5",
    ]
    result = CliRunner().invoke(app, ["embed", str(tmp_path / "faces"), "--out", str(out), *options])
    assert result.exit_code == 0, result.output
    assert "left out, since they cannot be read: 1" in result.stderr and "bad.jpg" in result.stderr
    faces = pd.DataFrame({"image_id": [f"x:{name}" for name in images], "image_path": list(images)})
    expected = [pixels[8:24, 8:24].reshape(-1, 3).mean(axis=0) / 255 for pixels in images.values()]
    np.testing.assert_allclose(features_of_faces(out, "vector", faces), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "either --architecture NAME or --onnx FILE"),
        (["--architecture", "resnet18", "--mean", "0,0,0"], "--mean is for --onnx"),
        (["--onnx", "a.onnx", "--mean", "a"], "expected three numbers"),
        (["--onnx", "a.onnx", "--center-crop", "2"], "'center_crop': expected less than or equal to 1"),
    ],
)
def test_options_that_contradict_each_other_are_refused(tmp_path: Path, options: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["embed", str(tmp_path), "--out", str(tmp_path / "f.parquet"), *options])
    assert isinstance(result.exception, ConfigError)
    assert message in str(result.exception)
