"""Grad-CAM: which parts of a face raise the probability of a value (Selvaraju et al. 2017, arXiv:1610.02391).

captum and pytorch-grad-cam do the same with hooks; timm's split of a backbone into features and head makes it one gradient.

Shapes: B batch, n faces, A attributes, D features, h×w positions.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from ssl_pipeline.labels import IntArray
from ssl_pipeline.learning.model import FaceClassifier
from ssl_pipeline.learning.predict import CheckpointPredictor, eval_mode, iterate_batches
from ssl_pipeline.learning.vote import Vote

_MAX_SIDE = 14
_BATCH = 32


def saliency(
    predictor: CheckpointPredictor, pixels: npt.NDArray[np.uint8], pixel_rows: IntArray, codes: IntArray
) -> npt.NDArray[np.float32] | None:
    """Compute Grad-CAM per face and attribute: relu(Σ_d mean(∂ log p(value) / ∂ map_d) · map_d), its maximum scaled to 1.

    Args:
        predictor: a network, or a vote, of which the first network is asked.
        pixels: uint8 [M, S, S, 3], usually a memory map.
        pixel_rows: int [n].
        codes: the values to explain, int [n, A]; unknown (-1) gives zeros.

    Returns:
        float32 [n, A, h, w], h and w at most 14; None if there is no network with maps, e.g. a transformer.
    """
    model = _network(predictor.model)
    if model is None or not len(pixel_rows):
        return None
    parts = []
    with eval_mode(model):
        batches = iterate_batches(pixels, pixel_rows, batch_size=_BATCH, device=predictor.compute.device)
        for number, faces in enumerate(batches):
            with torch.no_grad():
                maps = model.feature_maps(faces).float()
            if maps.dim() != 4 or min(maps.shape[2:]) < 2:
                return None
            parts.append(_of_batch(model, maps, torch.from_numpy(codes[number * _BATCH :][: len(faces)])))
    return np.concatenate(parts)


def _of_batch(model: FaceClassifier, maps: Tensor, codes: Tensor) -> npt.NDArray[np.float32]:
    backbone: Any = model.backbone
    maps = maps.requires_grad_()
    log_classes = model.log_probabilities(backbone.forward_head(maps))
    heats = []
    for position in range(codes.shape[1]):
        wanted = codes[:, position].to(maps.device)
        matches = model.class_codes[None, :, position] == wanted[:, None]
        log_values = log_classes.masked_fill(~matches, -torch.inf).logsumexp(dim=1)
        total = log_values[wanted >= 0].sum()
        (gradient,) = torch.autograd.grad(total, maps, retain_graph=True)
        heat = (gradient.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1).clamp(min=0).detach()
        heats.append(torch.nan_to_num(heat))
    heat = torch.stack(heats, dim=1)
    heat = functional.adaptive_avg_pool2d(heat, [min(side, _MAX_SIDE) for side in heat.shape[2:]])
    heat = heat / heat.amax(dim=(2, 3), keepdim=True).clamp(min=1e-12)
    return np.asarray(heat.cpu().numpy(), np.float32)


def _network(model: FaceClassifier | Vote) -> FaceClassifier | None:
    if isinstance(model, FaceClassifier):
        return model
    return next((member.model for member in model.members if isinstance(member.model, FaceClassifier)), None)
