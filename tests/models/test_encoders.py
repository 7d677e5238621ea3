"""What encoders refuse, and that what they say mends it."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from foretell.core.errors import UsageError
from foretell.models.encoders import ConvolutionalEncoder, observation_encoder


@pytest.mark.parametrize(("shape", "mend"), [
    ((7, 7, 3), "of a grid of few cells make a vector: "),
    ((84, 84, 12), "stack fewer frames"),
    ((40, 40), "Of an image without colours, add an axis of one channel"),
    ((2, 40, 40, 3), "of other arrays, make a vector: "),
])  # fmt: skip
def test_what_is_no_image_is_refused_with_what_to_do(shape, mend):
    with pytest.raises(UsageError, match=r"expected .*reshape\(len\(observations\), -1\)") as refusal:
        observation_encoder(shape, 8)
    assert mend in str(refusal.value)
    assert str(shape) in str(refusal.value)


def test_what_was_refused_is_read_once_it_is_mended():
    seen = np.zeros((5, 7, 7, 3), np.uint8)
    flat = seen.reshape(len(seen), -1)
    space = gymnasium.spaces.flatten_space(gymnasium.spaces.Box(0, 255, seen.shape[1:], np.uint8))
    assert space.shape == flat.shape[1:]
    assert observation_encoder(flat.shape[1:], 8).in_features == 147
    assert isinstance(observation_encoder((40, 40, 1), 8), ConvolutionalEncoder)
