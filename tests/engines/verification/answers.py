"""Answers made up for a test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engines.backend import Output


def made_up(risks: Sequence[float], seed: int = 0) -> Output:
    """An answer with these melanoma risks; what is left over is shared out among the other classes at random."""
    rng = np.random.default_rng(seed)
    rest = rng.dirichlet(np.ones(6), len(risks)) * (1 - np.array(risks))[:, None]
    probabilities = np.concatenate([np.array(risks)[:, None], rest], axis=1)
    attention = rng.random((len(risks), 14, 14)) / 196
    return Output(probabilities.astype(np.float32), attention.astype(np.float32))


def with_risks(output: Output, risks: Sequence[float]) -> Output:
    """The same answer with other melanoma risks."""
    probabilities = output.probabilities.astype(np.float64)
    rest = probabilities[:, 1:] / probabilities[:, 1:].sum(axis=1, keepdims=True) * (1 - np.array(risks))[:, None]
    return Output(np.concatenate([np.array(risks)[:, None], rest], axis=1).astype(np.float32), output.attention)
