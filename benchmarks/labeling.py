"""How much bf16 with channels-last gains over fp32 on this machine: training and labeling, as ratios within one run.

python -m benchmarks.labeling            (make bench)
"""

import time
from collections.abc import Callable

import torch

from ssl_pipeline.config.training import ModelConfig
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.device import resolve_device, resolve_dtype
from ssl_pipeline.learning.model import FaceClassifier, build_model

SPACE = LabelSpace.of({"gender": ["male", "female"], "age": ["<30", "30-59", ">=60"]})
BATCH, SIZE, REPEATS = 128, 64, 5


def faces_per_second(work: Callable[[], object]) -> float:
    """The best of several repeats, after one to warm up."""
    work()
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return BATCH / min(seconds)


def measure(model: FaceClassifier, pixels: torch.Tensor, *, bf16: bool) -> tuple[float, float]:
    """Faces a second in training and in labeling."""
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
    """Print a table."""
    chosen = resolve_dtype("auto", resolve_device("cpu"))
    print(f"precision: auto takes {chosen} on this processor; {torch.get_num_threads()} threads, {SIZE} pixels")
    print(f"{'model':12} {'fp32 train':>12} {'label':>8} {'bf16+channels-last':>20} {'label':>8} {'ratios':>12}")
    pixels = torch.randint(0, 256, (BATCH, 3, SIZE, SIZE), dtype=torch.uint8)
    for architecture in ("resnet10t", "resnet18", "wrn16_2"):
        config = ModelConfig(architecture=architecture)
        plain = measure(build_model(config, labels=SPACE, image_size=SIZE), pixels, bf16=False)
        model = build_model(config, labels=SPACE, image_size=SIZE).to(memory_format=torch.channels_last)
        fast = measure(model, pixels, bf16=True)
        ratios = f"{fast[0] / plain[0]:.2f} {fast[1] / plain[1]:.2f}"
        print(f"{architecture:12} {plain[0]:12.0f} {plain[1]:8.0f} {fast[0]:20.0f} {fast[1]:8.0f} {ratios:>12}")


if __name__ == "__main__":
    main()
