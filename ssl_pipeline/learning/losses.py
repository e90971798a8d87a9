"""Cross-entropy on what is known of a face: all attributes, some, none, surely or softly.

Shapes: B batch, A attributes, K classes.
"""

import itertools

import torch
from torch import Tensor

from ssl_pipeline.labels import LabelSpace


class CandidateCrossEntropy:
    """Cross-entropy between target and model, both summed down to the attributes that the face's target knows.

    Let S be the attributes known of a face, and p_S, q_S the model's and the target's class probabilities summed
    over all other attributes. The loss is H(q_S, p_S) = −Σ_s q_S(s) log p_S(s). So

    - all known, hard target: the usual −log p(c);
    - some known: −log Σ p(c) over the candidate set, the classes that agree with what is known;
    - soft target: the usual soft cross-entropy, on the known attributes alone;
    - nothing known: 0.

    Label smoothing ε mixes q_S with the uniform distribution over the values of S (arXiv:1512.00567).
    """

    def __init__(self, labels: LabelSpace, *, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing
        self._class_codes = torch.from_numpy(labels.class_codes)
        self._num_values = labels.num_values

    def __call__(self, log_probabilities: Tensor, targets: Tensor, known: Tensor) -> Tensor:
        """Compute the loss of each face.

        Args:
            log_probabilities: the model's, float [B, K].
            targets: class probabilities, float [B, K], rows sum to 1. What they say of unknown attributes is ignored.
            known: bool [B, A].

        Returns:
            float [B], ≥ 0.
        """
        losses = log_probabilities.new_zeros(len(log_probabilities))
        for pattern in itertools.product((False, True), repeat=known.shape[1]):
            rows = (known == torch.tensor(pattern, device=known.device)).all(dim=1).nonzero().squeeze(1)
            if len(rows) == 0 or not any(pattern):
                continue
            cells, num_cells = self._cells(pattern)
            membership = torch.nn.functional.one_hot(cells, num_cells).to(targets)
            # log p_S: the classes of a cell are added in log space, so that tiny probabilities stay exact
            of_cell = [log_probabilities[rows][:, cells == cell].logsumexp(dim=1) for cell in range(num_cells)]
            target = targets[rows] @ membership
            target = (1 - self.label_smoothing) * target + self.label_smoothing / num_cells
            losses = losses.index_add(0, rows, -(target * torch.stack(of_cell, dim=1)).sum(dim=1))
        return losses

    def _cells(self, pattern: tuple[bool, ...]) -> tuple[Tensor, int]:
        """Number the classes by their values of the known attributes alone: int [K], and how many numbers there are."""
        cells = torch.zeros(len(self._class_codes), dtype=torch.int64)
        num_cells = 1
        for position, is_known in enumerate(pattern):
            if is_known:
                cells = cells * self._num_values[position] + self._class_codes[:, position]
                num_cells *= self._num_values[position]
        return cells, num_cells
