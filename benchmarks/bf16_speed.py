"""The speed of bf16 with channels-last against fp32 on this processor, in training and labeling.

python -m benchmarks.bf16_speed [ARCHITECTURE …]            (make bench)
"""

import sys
import timeit
from collections.abc import Callable

import torch

from ssl_pipeline.config.training import ModelConfig
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.device import resolve_device, resolve_dtype
from ssl_pipeline.learning.model import FaceClassifier, build_model

LABELS = LabelSpace.of({"gender": ["male", "female"], "age": ["<30", "30-59", ">=60"]})
BATCH_SIZE, IMAGE_SIZE, REPEATS = 128, 64, 5


def faces_per_second(work: Callable[[], object]) -> float:
    """Return the best of several repeats, after one to warm up."""
    work()
    return BATCH_SIZE / min(timeit.repeat(work, number=1, repeat=REPEATS))


def measure(model: FaceClassifier, pixels: torch.Tensor, *, bf16: bool) -> tuple[float, float]:
    """Return the faces per second in training and in labeling."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def train() -> None:
        model.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = -model(pixels)[:, 0].mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def label() -> None:
        model.eval()
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            model(pixels)

    return faces_per_second(train), faces_per_second(label)


def main() -> None:
    """Print a table with one line per architecture."""
    dtype = resolve_dtype("auto", resolve_device("cpu"))
    print(f"precision auto is {dtype} on this processor; {torch.get_num_threads()} threads, {IMAGE_SIZE} pixels")
    print(f"{'model':12} {'fp32 train':>12} {'label':>8} {'bf16+channels-last':>20} {'label':>8} {'ratios':>12}")
    pixels = torch.randint(0, 256, (BATCH_SIZE, 3, IMAGE_SIZE, IMAGE_SIZE), dtype=torch.uint8)
    for architecture in sys.argv[1:] or ("resnet10t", "resnet18", "wrn16_2"):
        config = ModelConfig(architecture=architecture)
        fp32 = measure(build_model(config, labels=LABELS, image_size=IMAGE_SIZE), pixels, bf16=False)
        model = build_model(config, labels=LABELS, image_size=IMAGE_SIZE).to(memory_format=torch.channels_last)
        bf16 = measure(model, pixels, bf16=True)
        ratios = f"{bf16[0] / fp32[0]:.2f} {bf16[1] / fp32[1]:.2f}"
        print(f"{architecture:12} {fp32[0]:12.0f} {fp32[1]:8.0f} {bf16[0]:20.0f} {bf16[1]:8.0f} {ratios:>12}")


if __name__ == "__main__":
    main()
