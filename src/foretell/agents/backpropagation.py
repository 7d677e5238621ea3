"""Forward and backward passes of an `EnsembleMLP` written out: a product, a sum and a mask a layer, and nothing else.

With $x_0$ the inputs, $x_l = \\mathrm{relu}(x_{l-1} W_l + b_l)$ and $g_l$ the gradient of the loss with respect to what
relu reads in layer l (Rumelhart et al. 1986, Eqs 6 and 7, for batches):
$\\partial W_l = x_{l-1}^\\top g_l$, $\\partial b_l = \\sum g_l$, $g_{l-1} = (g_l W_l^\\top) \\cdot 1[x_{l-1} > 0]$.
For networks as small as those of SAC, autograd's bookkeeping costs as much as the arithmetic (benchmark `sac`).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from foretell.agents.native.building import usable
from foretell.agents.native.perceptrons import DEEP, NativePass, Scratch
from foretell.agents.networks import EnsembleMLP


@runtime_checkable
class Pass(Protocol):
    """One network at one batch size; each call reads what the last `forward` computed."""

    def forward(self, inputs: Float[Tensor, "rows inputs"]) -> Float[Tensor, "members rows outputs"]:
        """Return the outputs, which may be written over by the next call."""
        ...

    def backward(self, gradient: Float[Tensor, "members first_rows outputs"]) -> None:
        """Write the loss's gradient into `grad` of every parameter, given that of the outputs.

        `gradient` may be of the first rows alone, where the others are not part of the loss.
        """
        ...

    def gradient_of_inputs(
        self, gradient: Float[Tensor, "members first_rows outputs"], first: int
    ) -> Float[Tensor, "first_rows wanted"]:
        """Return the loss's gradient with respect to the inputs from number `first` on, summed over the members."""
        ...


def make_pass(network: EnsembleMLP, rows: int, scratch: Scratch | None = None, *, deep: int = DEEP) -> Pass:
    """Return passes through `network` for batches of `rows`, in C where that can be had.

    To go back, they need a `grad` of the weights that is there already. In C, longer sums are added up `deep` terms at
    a time.
    """
    if functions := usable(*network.parameters()):
        return NativePass(functions, network, rows, scratch or Scratch(), deep=deep)
    return TorchPass(network)


class Passes:
    """Passes through several networks, made when they are first asked for; `deep` as in `make_pass`."""

    def __init__(self, *, deep: int = DEEP) -> None:
        self._deep = deep
        self._made: dict[tuple[int, int, int], Pass] = {}
        self._scratch = Scratch()

    def of(self, network: EnsembleMLP, rows: int) -> Pass:
        """Return the passes for this batch size; new ones where the weights lie elsewhere since."""
        key = id(network), rows, network.layers[0][0].data_ptr()
        if key not in self._made:
            self._made[key] = make_pass(network, rows, self._scratch, deep=self._deep)
        return self._made[key]


class TorchPass:
    """A `Pass` of PyTorch's operators, for any type of number."""

    def __init__(self, network: EnsembleMLP):
        self.network = network
        self._kept: list[Tensor] = []

    def forward(self, inputs: Float[Tensor, "rows inputs"]) -> Float[Tensor, "members rows outputs"]:
        """See `Pass`."""
        layers = self.network.layers
        self._kept = [inputs.expand(self.network.members, *inputs.shape)]
        for weight, bias in layers[:-1]:
            self._kept.append(torch.baddbmm(bias, self._kept[-1], weight).relu_())
        weight, bias = layers[-1]
        return torch.baddbmm(bias, self._kept[-1], weight)

    def backward(self, gradient: Float[Tensor, "members first_rows outputs"]) -> None:
        """See `Pass`."""
        for layer in reversed(range(len(self._kept))):
            weight, bias = self.network.layers[layer]
            torch.bmm(self._read(layer, gradient).mT, gradient, out=weight.grad)
            torch.sum(gradient, 1, keepdim=True, out=bias.grad)
            if layer:
                gradient = self._through(layer, gradient)

    def gradient_of_inputs(
        self, gradient: Float[Tensor, "members first_rows outputs"], first: int
    ) -> Float[Tensor, "first_rows wanted"]:
        """See `Pass`."""
        for layer in reversed(range(1, len(self._kept))):
            gradient = self._through(layer, gradient)
        return torch.bmm(gradient, self.network.layers[0][0][:, first:].mT).sum(0)

    def _through(self, layer: int, gradient: Tensor) -> Tensor:
        """The gradient of what relu read, from that of what `layer` gave out."""
        before = torch.bmm(gradient, self.network.layers[layer][0].mT)
        return torch.ops.aten.threshold_backward(before, self._read(layer, gradient), 0.0)

    def _read(self, layer: int, gradient: Tensor) -> Tensor:
        return self._kept[layer][:, : gradient.shape[1]]
