"""Attention as a loop over batch, heads, queries and keys, in float64 (Eq. 1 of the report)."""

from __future__ import annotations

import math

import numpy as np


def attend_slowly(queries, keys, values, allowed):
    """`(batch, heads, tokens, head_dim)` arrays and `(batch, queries, keys)` flags to attended values."""
    batch, heads, count, width = queries.shape
    found = np.zeros((batch, heads, count, values.shape[-1]))
    for b in range(batch):
        for h in range(heads):
            for q in range(count):
                seen = [k for k in range(keys.shape[2]) if allowed[b, q, k]]
                scores = [float(np.dot(queries[b, h, q].astype(float), keys[b, h, k])) / math.sqrt(width) for k in seen]
                weights = [math.exp(score - max(scores)) for score in scores]
                for k, weight in zip(seen, weights):
                    found[b, h, q] += weight / sum(weights) * values[b, h, k]
    return found
