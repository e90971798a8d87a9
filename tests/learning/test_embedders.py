"""Embedders: ONNX files by OpenCV and frozen timm networks, against plain computation."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from ssl_pipeline.config.teachers import OnnxEmbedding, TimmEmbedding
from ssl_pipeline.errors import CheckpointError, ConfigError
from ssl_pipeline.learning.device import Compute
from ssl_pipeline.learning.embedders import build_embedder, embed_faces, embedding_digest
from tests.learning.prediction_support import random_faces
from tests.learning.tiny_onnx import write_mean_color

CPU = Compute.build("cpu", "fp32")
SHARED = Path(__file__).parents[2].parent / "shared" / "models" / "mobilefacenet_features.onnx"


def onnx_settings(file: Path, **settings: object) -> OnnxEmbedding:
    return OnnxEmbedding.model_validate({"file": file, "image_size": 16, "mirror": False, **settings})


def embed(settings: OnnxEmbedding | TimmEmbedding, faces: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    rows = np.arange(len(faces)) if rows is None else rows
    return embed_faces(build_embedder(settings), faces, rows, compute=CPU, batch_size=40)


@pytest.fixture
def mean_color(tmp_path: Path) -> Path:
    pytest.importorskip("cv2")
    return write_mean_color(tmp_path / "mean.onnx", size=16)


def test_an_onnx_file_gives_its_output_for_each_row_normalized_as_configured(mean_color: Path) -> None:
    faces, rows = random_faces(45), np.arange(45)[::-1].copy()
    colors = faces.reshape(45, -1, 3).mean(axis=1) / 255
    mean, std = np.array([0.1, 0.2, 0.3]), np.array([0.5, 1.0, 2.0])
    settings = onnx_settings(mean_color, mean=mean.tolist(), std=std.tolist())
    np.testing.assert_allclose(embed(settings, faces, rows), ((colors - mean) / std)[rows], atol=1e-5)
    swapped = onnx_settings(mean_color, mean=mean.tolist(), std=std.tolist(), channels="bgr")
    np.testing.assert_allclose(embed(swapped, faces), (colors[:, ::-1] - mean) / std, atol=1e-5)


def test_the_network_sees_the_centered_square_resized(mean_color: Path) -> None:
    faces = random_faces(3, size=32)
    inner = faces[:, 8:24, 8:24].reshape(3, -1, 3).mean(axis=1) / 255
    settings = onnx_settings(mean_color, center_crop=0.5, mean=(0, 0, 0), std=(1, 1, 1))
    np.testing.assert_allclose(embed(settings, faces), inner, atol=1e-5)


def test_an_output_is_chosen_by_its_name(mean_color: Path) -> None:
    faces = random_faces(2)
    named = embed(onnx_settings(mean_color, output_name="pooled", input_name="faces"), faces)
    np.testing.assert_allclose(named, embed(onnx_settings(mean_color), faces), atol=1e-6)


def test_what_opencv_cannot_compute_is_one_sentence(mean_color: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="check image_size, input_name and output_name"):
        embed(onnx_settings(mean_color, input_name="other"), random_faces(1))
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(CheckpointError, match=r"bad\.onnx: OpenCV cannot read it as an ONNX file"):
        embed(onnx_settings(tmp_path / "bad.onnx"), random_faces(1))
    with pytest.raises(CheckpointError, match=r"absent\.onnx: no such file"):
        embed(onnx_settings(tmp_path / "absent.onnx"), random_faces(1))


def test_a_digest_is_of_the_content_and_the_settings_not_of_the_name(mean_color: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(mean_color.read_bytes())
    digest = embedding_digest(onnx_settings(mean_color))
    assert embedding_digest(onnx_settings(copy)) == digest
    assert embedding_digest(onnx_settings(copy, mirror=True)) != digest
    write_mean_color(copy, size=24)
    assert embedding_digest(onnx_settings(copy)) != digest


def test_a_frozen_network_gives_its_pooled_features_averaged_with_the_mirrored_face(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = timm.create_model("test_resnet").eval()
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    settings = TimmEmbedding(architecture="test_resnet", weights_file=tmp_path / "weights.safetensors", image_size=32)
    faces = random_faces(3, size=32)
    images = torch.from_numpy(faces).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(network.pretrained_cfg[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    with torch.inference_mode():
        plain, mirrored = (
            network.forward_head(network.forward_features((view - mean) / std), pre_logits=True)
            for view in (images, images.flip(3))
        )
    assert (plain - mirrored).abs().max() > 1e-4
    np.testing.assert_allclose(embed(settings, faces), ((plain + mirrored) / 2).numpy(), rtol=1e-4, atol=1e-5)


def test_a_networks_own_size_is_the_default_and_a_hubs_name_needs_one(tmp_path: Path) -> None:
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "weights.safetensors")
    settings = TimmEmbedding(architecture="test_resnet", weights_file=tmp_path / "weights.safetensors")
    assert build_embedder(settings).image_size == 160
    with pytest.raises(ConfigError, match="--set image_size=224"):
        build_embedder(TimmEmbedding(architecture="hf_hub:me/mine"))


@pytest.mark.skipif(not SHARED.is_file(), reason=f"no {SHARED}")
def test_a_face_network_runs() -> None:
    pytest.importorskip("cv2")
    features = embed(OnnxEmbedding(file=SHARED, center_crop=0.75, mirror=False), random_faces(2, size=112))
    assert features.shape == (2, 640)
    assert np.linalg.norm(features[0] - features[1]) > 0.1
