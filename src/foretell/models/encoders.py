"""From one observation to one embedding: linear for vectors, convolutional for images (report, section II-B.2)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from foretell.core.errors import UsageError

SMALLEST_IMAGE = 36
"""Pixels a side below which the three convolutions leave nothing."""
AS_VECTOR = "reshape(len(observations), -1), and gymnasium.wrappers.FlattenObservation around the environment."
"""How what is no image is given."""


class ConvolutionalEncoder(nn.Module):
    """Three convolutions and a linear layer (Mnih et al. 2015, methods; Chen et al. 2021, appendix A).

    Images are `(height, width, channels)` as Gymnasium renders them, or `(channels, height, width)`; channels are
    the axis of size 4 or less.
    """

    def __init__(self, observation_shape: tuple[int, ...], width: int):
        super().__init__()
        self.channels_last = observation_shape[2] <= 4
        channels, height, across = (
            (observation_shape[2], *observation_shape[:2]) if self.channels_last else observation_shape
        )
        if min(height, across) < SMALLEST_IMAGE or channels > 4:
            raise UsageError(
                f"images of shape {observation_shape}; expected at least {SMALLEST_IMAGE} pixels a side and at most "
                "4 channels. Resize them when recording, or stack fewer frames; of a grid of few cells make a vector: "
                f"{AS_VECTOR}"
            )
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, 32, 8, stride=4), nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2), nn.ReLU(),
            nn.Conv2d(64, 64, 3, stride=1), nn.ReLU(),
        )  # fmt: skip
        self.output = nn.Linear(64 * _left(height) * _left(across), width)

    def forward(self, observations: Float[Tensor, "batch time ..."]) -> Float[Tensor, "batch time width"]:
        """Encode each image on its own; what is encoded already, `(batch, time, width)`, stays as it is."""
        if observations.ndim == 3:
            return observations
        images = observations.flatten(0, 1)
        if self.channels_last:
            images = images.permute(0, 3, 1, 2)
        return self.output(self.convolutions(images).flatten(1)).unflatten(0, observations.shape[:2])


def _left(pixels: int) -> int:
    for kernel, stride in ((8, 4), (4, 2), (3, 1)):
        pixels = (pixels - kernel) // stride + 1
    return pixels


def observation_encoder(observation_shape: tuple[int, ...], width: int) -> nn.Module:
    """Return the encoder that fits the shape: vectors or images. Raises `UsageError` for other shapes."""
    if len(observation_shape) == 1:
        return nn.Linear(observation_shape[0], width)
    if len(observation_shape) == 3:
        return ConvolutionalEncoder(observation_shape, width)
    raise UsageError(
        f"observations of shape {observation_shape}; expected a vector or an image of three axes. Of an image without "
        f"colours, add an axis of one channel, in the environment as well; of other arrays, make a vector: {AS_VECTOR}"
    )
