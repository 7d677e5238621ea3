"""Initial weights of every network, from one generator."""

from __future__ import annotations

import math

import torch
from torch import nn

EMBEDDING_STD = 0.3
"""Deviation of learned embeddings: as large as the linear embeddings of scaled inputs that they are added to."""

NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)
"""Layers whose weights are gains, 1 from the beginning."""


def initialize(module: nn.Module, generator: torch.Generator) -> None:
    r"""Draw weights uniformly in $\pm 1/\sqrt{inputs}$ (smaller by $\sqrt{2 \cdot layers}$ where they write to the
    residual stream, as in GPT-2), tables of embeddings normally, biases 0; norms start as the identity, LSTMs with
    a bias of 1 on their forget gates, so that they remember before they have learned what (Jozefowicz et al. 2015).
    Biases of `embed_` layers are drawn like their weights: the LayerNorm behind an embedding without bias would leave
    of a single number, a return say, little but its sign.

    From `generator` alone, in the order of `named_parameters`. GPT-2's fixed 0.02 belongs to widths near
    $1 / 0.02^2 = 2500$; at widths of tens it starts training with signals so small that thousands of updates are lost.
    """
    residual = ("attention_output.weight", "feedforward_out.weight")
    outputs = sum(name.endswith(residual) for name, _ in module.named_parameters())
    norms = {id(parameter) for part in module.modules() if isinstance(part, NORMS) for parameter in part.parameters()}
    tables = {id(part.weight) for part in module.modules() if isinstance(part, nn.Embedding)}
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if id(parameter) in norms:
                continue
            if id(parameter) in tables:
                parameter.normal_(0.0, EMBEDDING_STD, generator=generator)
            elif parameter.dim() == 1 and not name.startswith("embed_"):
                parameter.zero_()
            else:
                bias = parameter.dim() == 1
                weight = module.get_parameter(name.removesuffix("bias") + "weight") if bias else parameter
                bound = 1 / math.sqrt(weight[0].numel() * (outputs if name.endswith(residual) else 1))
                parameter.uniform_(-bound, bound, generator=generator)
        for part in module.modules():
            if isinstance(part, nn.LSTM):  # gates in torch's order: input, forget, cell, output
                for name, parameter in part.named_parameters():
                    if name.startswith("bias_ih"):
                        parameter[part.hidden_size : 2 * part.hidden_size] = 1.0
