"""Batch norms folded into the convolutions before them, for prediction: one pass over the activations less for each."""

from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

_CONVOLUTIONS = (nn.Conv2d, Conv2dSame)
"""Exactly these: others, such as those that standardize their weights, are not linear in their stored weight."""
_BATCH_NORMS = (nn.BatchNorm2d, BatchNormAct2d)


@torch.no_grad()
def fold_batch_norms(network: nn.Module, example: Tensor) -> int:
    """Fold batch norms into convolutions, in place; in eval mode the output stays the same but for rounding.

    With y = γ · (W∗x + b − μ) / σ + β, the convolution gets the weight W · γ/σ and the bias (b − μ) · γ/σ + β. A pair is
    folded if the batch norm takes the convolution's output and nothing else does, and both are called once.

    Args:
        network: in eval mode.
        example: an input, to see the order of the calls.

    Returns:
        The number of folded batch norms.
    """
    names = {module: name for name, module in network.named_modules()}
    pairs = _find_pairs(network, example)
    for convolution, norm in pairs:
        assert norm.running_mean is not None and norm.running_var is not None
        weight, bias = fuse_conv_bn_weights(
            convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        is_channels_last = convolution.weight.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if is_channels_last else torch.contiguous_format
        convolution.weight = nn.Parameter(weight.contiguous(memory_format=layout), requires_grad=False)
        convolution.bias = nn.Parameter(bias, requires_grad=False)
        network.set_submodule(names[norm], _activation(norm))
    return len(pairs)


def _activation(norm: nn.BatchNorm2d) -> nn.Module:
    """Return what a batch norm of timm does after normalizing."""
    return nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()


def _find_pairs(network: nn.Module, example: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Find the convolutions whose output only a batch norm takes, by one forward pass."""
    outputs: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # the tensors are kept, so that no id is used twice
    takers: dict[int, list[nn.BatchNorm2d]] = {}
    calls: Counter[nn.Module] = Counter()
    uses = _Uses(outputs)

    def after_convolution(module: nn.Module, inputs: Any, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        outputs[id(output)] = (module, output)
        takers[id(output)] = []
        calls[module] += 1

    def before_norm(module: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        if id(inputs[0]) in outputs:
            takers[id(inputs[0])].append(module)
        calls[module] += 1
        uses.counted = False

    def after_norm(module: nn.Module, inputs: Any, output: Tensor) -> None:
        uses.counted = True

    with _hooks(network, after_convolution, before_norm, after_norm), uses:
        network(example)
    return [
        (outputs[key][0], norms[0])
        for key, norms in takers.items()
        if len(norms) == 1
        and not uses.of[key]
        and calls[outputs[key][0]] == calls[norms[0]] == 1
        and norms[0].running_mean is not None
    ]


@contextmanager
def _hooks(
    network: nn.Module,
    after_convolution: Callable[..., None],
    before_norm: Callable[..., None],
    after_norm: Callable[..., None],
) -> Iterator[None]:
    """Hook into every foldable module, inside the block."""
    handles = []
    for module in network.modules():
        if type(module) in _CONVOLUTIONS:
            handles.append(module.register_forward_hook(after_convolution))
        elif type(module) in _BATCH_NORMS:
            handles.append(module.register_forward_pre_hook(before_norm))
            handles.append(module.register_forward_hook(after_norm))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Uses(TorchFunctionMode):
    """Counts, per id of an observed tensor, the calls of torch that take it outside of batch norms."""

    def __init__(self, observed: Container[int]) -> None:
        super().__init__()
        self.observed = observed
        self.of: Counter[int] = Counter()
        self.counted = True

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if self.counted:
            self.of.update(id(leaf) for leaf in tree_leaves((args, kwargs)) if id(leaf) in self.observed)
        return func(*args, **(kwargs or {}))
