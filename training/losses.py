"""The training loss: weighted cross-entropy over the classes plus a focal term on melanoma against the rest."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from engines.classes import CLASSES, MELANOMA


def class_weights(counts: Tensor) -> Tensor:
    """``w_i = N / (K * N_i)`` for ``counts`` N_i of K classes: ``[K]`` to ``[K]``, mean weight per sample 1."""
    return counts.sum() / (len(counts) * counts)


def melanoma_focal(logits: Tensor, targets: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss (Lin et al. 2017, arXiv:1708.02002) of melanoma against the rest.

    Args:
        logits: ``[N, 7]`` float.
        targets: ``[N, 7]`` float, rows sum to 1 (soft where images were mixed).
        gamma: Focusing exponent.

    Returns:
        Scalar mean loss.
    """
    melanoma = CLASSES.index(MELANOMA)
    rest = torch.cat([logits[:, :melanoma], logits[:, melanoma + 1 :]], dim=1).logsumexp(dim=1)
    margin = logits[:, melanoma] - rest
    target = targets[:, melanoma]
    log_p, log_q = F.logsigmoid(margin), F.logsigmoid(-margin)
    hit, miss = (1 - log_p.exp()) ** gamma * log_p, (1 - log_q.exp()) ** gamma * log_q
    return -(target * hit + (1 - target) * miss).mean()


def lesion_loss(logits: Tensor, targets: Tensor, weights: Tensor, focal_share: float = 0.3) -> Tensor:
    """Weighted cross-entropy + ``focal_share`` x focal loss; shapes as for :func:`melanoma_focal`, weights ``[7]``."""
    cross_entropy = -(targets * weights * logits.log_softmax(dim=1)).sum(dim=1).mean()
    return cross_entropy + focal_share * melanoma_focal(logits, targets)


def distillation_loss(logits: Tensor, teacher_logits: Tensor, temperature: float = 2.0) -> Tensor:
    """How far the student's softened answers are from the teacher's on the same views.

    ``T^2 * KL(teacher || student)`` at temperature T (Hinton et al. 2015, arXiv:1503.02531), mean over the batch; both
    ``[N, 7]`` float.
    """
    teacher = (teacher_logits / temperature).log_softmax(dim=1)
    student = (logits / temperature).log_softmax(dim=1)
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)
