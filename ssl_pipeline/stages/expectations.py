"""What a config can be expected to give, before any training: faces per split, what looks wrong, minutes."""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import pandas as pd
import torch
from torch.nn.functional import cross_entropy

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.training import RoleConfig
from ssl_pipeline.faces.arrangement import ArrangedFaces, arrange_faces
from ssl_pipeline.faces.decoding import UnreadableFace, short_side_pixels
from ssl_pipeline.faces.inventory import FaceInventory, most_common, read_inventory
from ssl_pipeline.learning.device import Compute
from ssl_pipeline.learning.model import build_model
from ssl_pipeline.learning.parameter_groups import FreezableBackbone
from ssl_pipeline.pseudo_labels.precision_guarantee import num_units_needed
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.plan import FaceCounts, planned_stages
from ssl_pipeline.runs.run_progress import FORWARD_SHARE

_POOL_SAMPLE, _SIZE_SAMPLE = 500, 200
_SECONDS, _STEPS = 3.0, 5
"""Of one measurement: at most so long after a step that warms up, and at most so many steps."""
_GUARANTEED, _DELTA = 0.8, 0.1


@dataclass(frozen=True)
class Expectations:
    """What to expect of a config's faces.

    Attributes:
        splits: {split: number of labeled faces}.
        num_pool: faces of the pool; of those that were decoded, the usable share is taken for all.
        held_out: {attribute: {value: (validation faces, test faces)}}.
        warnings: what looks wrong, and what is rejected, in sentences.
    """

    splits: Mapping[str, int]
    num_pool: int
    held_out: Mapping[str, Mapping[str, tuple[int, int]]]
    warnings: tuple[str, ...]

    @property
    def accuracy_noise(self) -> float:
        """Half of the 95 % interval of an accuracy near 80 % on the test faces, in points."""
        return 196 * math.sqrt(0.8 * 0.2 / max(self.splits["test"], 1))

    @property
    def prospects(self) -> list[str]:
        """What the held-out faces can show, in sentences."""
        pairs = [pair for values in self.held_out.values() for pair in values.values()]
        texts = [
            f"with {self.splits['test']:,} test faces, differences below {self.accuracy_noise:.0f} points of accuracy may "
            f"be chance; the rarest value has {min(map(min, pairs))} held-out faces"
        ]
        few = sum(validation < num_units_needed(_GUARANTEED, _DELTA) for validation, _ in pairs)
        if few:
            texts.append(
                f"{few} of {len(pairs)} values have too few validation faces to show a precision of {_GUARANTEED:.0%} "
                f"with confidence {1 - _DELTA:.0%}; the default selection guarantees none"
            )
        return texts


def expect(config: RunConfig) -> Expectations:
    """Read and decode the labeled faces and a sample of the pool, and split them as the run will.

    Raises:
        FaceTableError: if the run would stop, with the reason.
    """
    inventory = read_inventory(config.faces, config.labels, seed=config.seed)
    is_pool = inventory.faces["role"] == "unlabeled"
    num_pool, sample = int(is_pool.sum()), inventory.faces[is_pool]
    sample = sample.sample(min(_POOL_SAMPLE, len(sample)), random_state=0)
    inventory.faces = pd.concat([inventory.faces[~is_pool], sample]).sort_index()
    with TemporaryDirectory() as directory:
        pixels = Path(directory) / "pixels.npy"
        arranged = arrange_faces(inventory, config.faces, config.labels, seed=config.seed, pixels=pixels)
    labeled, space = arranged.labeled, config.labels.space
    held_out = {
        name: {
            value: (
                int(((labeled[name] == value) & (labeled["split"] == "validation")).sum()),
                int(((labeled[name] == value) & (labeled["split"] == "test")).sum()),
            )
            for value in values
        }
        for name, values in space.to_dict().items()
    }
    splits = {split: int((labeled["split"] == split).sum()) for split in ("train", "validation", "test")}
    usable = len(arranged.pool) / max(len(sample), 1)
    warnings = (*_rejections(inventory), *_contradictions(arranged, config), *_small_pictures(arranged, config))
    return Expectations(splits, round(num_pool * usable), held_out, warnings)


def _rejections(inventory: FaceInventory) -> Iterator[str]:
    for name, rows in inventory.rejected.groupby("source", sort=False):
        part = " (of a sample)" if (rows["role"] == "unlabeled").all() else ""
        yield f"{name}: rejected{part}: {'; '.join(most_common(rows['reason']))}"
    for name, passed_over in inventory.passed_over.items():
        if passed_over:
            yield f"{name}: {len(passed_over):,} × no image, e.g. {passed_over[0]}"


def _contradictions(arranged: ArrangedFaces, config: RunConfig) -> Iterator[str]:
    """Yield near duplicates with different labels: one of the two is probably wrong."""
    known = arranged.known.assign(class_id=config.labels.space.class_ids(config.labels.space.encode(arranged.known)))
    known = known[known["class_id"] >= 0]
    groups = known.groupby("picture_id")["class_id"]
    contradicting = known[groups.transform("nunique") > 1]
    if num := contradicting["picture_id"].nunique():
        ids = contradicting[contradicting["picture_id"] == contradicting["picture_id"].iloc[0]]["image_id"].tolist()[:2]
        yield f"{num:,} × nearly the same picture under different labels, e.g. {' and '.join(ids)}; one is probably wrong"


def _small_pictures(arranged: ArrangedFaces, config: RunConfig) -> Iterator[str]:
    sides = []
    for path in arranged.labeled["image_path"].sample(frac=1, random_state=0)[:_SIZE_SAMPLE]:
        try:
            sides.append(short_side_pixels(Path(path)))
        except (UnreadableFace, OSError):
            continue
    if sides and median(sides) < 0.75 * config.faces.image_size:
        yield (
            f"small pictures: half have fewer than {median(sides):g} pixels on the short side, and the network sees "
            f"{config.faces.image_size}; --set faces.image_size={max(round(median(sides) / 16) * 16, 32)} is faster"
        )


def estimate_seconds(config: RunConfig, *, num_train: int, num_pool: int) -> float:
    """Estimate the time of a run on this machine, with nothing beside it, by a few steps of its networks with random weights.

    The trainings of networks and the predictions of the pool by them are counted; teachers of fixed features are not.

    Args:
        config: of the run.
        num_train: labeled training faces.
        num_pool: faces of the pool.
    """
    speeds: dict[tuple[str, int | None, int, str], float] = {}
    seconds = 0.0
    counts = FaceCounts(num_train, num_train, num_pool)
    for stage in planned_stages(config, RunDir(config.runs_root / config.run_name), counts):
        work = stage.work
        if work is not None and work.role is not None and work.num_faces:
            model, training = work.role.model, work.role.training
            network = model.architecture, model.input_size, training.optimizer.frozen_layers, training.precision
            if network not in speeds:
                speeds[network] = _seconds_per_face(work.role, config)
            seconds += work.num_faces * speeds[network] * (1 if work.trains else FORWARD_SHARE)
    return seconds


def _seconds_per_face(role: RoleConfig, config: RunConfig) -> float:
    """Measure a step of a network with random weights, per face.

    On a CPU by the processor's time, divided among the threads: beside other programs, the clock would measure them too.
    """
    compute = Compute.build(config.device, role.training.precision)
    clock, num_threads = time.perf_counter, 1
    if compute.device.type == "cpu":
        clock, num_threads = time.process_time, torch.get_num_threads()
    size, labels = config.faces.image_size, config.labels.space
    model = build_model(role.model, labels=labels, image_size=size, load_pretrained=False).to(compute.device)
    FreezableBackbone(model, num_layers=role.training.optimizer.frozen_layers)
    num_faces = max(role.training.batch_size, 16)
    faces = torch.randint(0, 256, (num_faces, 3, size, size), dtype=torch.uint8, device=compute.device)
    times: list[float] = []
    while not times or (len(times) <= _STEPS and sum(times) < _SECONDS):
        started = clock()
        logits = model(faces)
        loss = cross_entropy(logits.float(), torch.zeros(num_faces, dtype=torch.long, device=compute.device))
        torch.autograd.backward(loss)
        times.append((clock() - started) / num_threads)
    return min(times) / num_faces
