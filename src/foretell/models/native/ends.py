"""The two ends of a Decision Transformer through the C library: from numbers to tokens, from states to the loss.

The same functions as `DecisionTransformer` writes in PyTorch's operators, each as one node of the graph: for small
models the calls of some fifty operators took as long as the blocks between.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from foretell.models.native.stack import added_up, address, addresses, empty, loaded, offsets_of, usable, zeros

NO_SUCH_TIMESTEP = 2
"""What the library answers where the table of timesteps is too short."""


class Front(ctypes.Structure):
    """What `ends.c` knows of embedding."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("windows", "time", "tokens", "width")),
        ("sizes", ctypes.c_int64 * 3),
        *((name, ctypes.c_int64) for name in ("length", "learned", "threads")),
    ]  # fmt: skip


class Tail(ctypes.Structure):
    """What `ends.c` knows of the loss."""

    _fields_ = [
        (name, ctypes.c_int64)
        for name in ("windows", "time", "width", "actions", "bounded", "absolute", "threads")
    ]  # fmt: skip


def fits(inputs: Sequence[Tensor], timesteps: Tensor, mask: Tensor, parameters: Sequence[Tensor]) -> bool:
    """Whether `embedded` can read these windows with these parameters, themselves `usable`, and nobody wants gradients
    of the windows.

    Of others, PyTorch's operators say what is wrong with them, or compute what they are worth.
    """
    windows, width = timesteps.shape, len(parameters[7])
    return (
        timesteps.dtype is torch.int64 and timesteps.is_cpu and mask.dtype is torch.bool and mask.is_cpu
        and mask.shape == windows and usable(*inputs) and parameters[6].shape[1:] == (width,)
        and all(
            one.shape[:2] == windows and weight.shape == (width, *one.shape[2:])
            for one, weight in zip(inputs, parameters[0:6:2], strict=True)
        )
        and not (torch.is_grad_enabled() and any(one.requires_grad for one in inputs))
    )  # fmt: skip


def readable(actions: Tensor, mask: Tensor, parameters: Sequence[Tensor]) -> bool:
    """Whether `imitation_loss_of` takes these actions with these parameters, themselves `usable`, and nobody wants
    gradients of them."""
    return (
        mask.dtype is torch.bool and mask.is_cpu and actions.shape == (*mask.shape, len(parameters[3]))
        and usable(actions) and not (torch.is_grad_enabled() and actions.requires_grad)
    )  # fmt: skip


def embedded(
    inputs: Sequence[Float[Tensor, "batch time _"]],
    timesteps: Int[Tensor, "batch time"],
    parameters: Sequence[Tensor],
    tokens: int,
) -> Float[Tensor, "batch tokens width"]:
    """Return the first `tokens` tokens of windows: return, observation and action of one timestep after the other.

    Of each the linear embedding and that of its timestep, summed and normed. `parameters`: weight and bias of each
    kind, the table of timesteps, the norm's gain and shift. Only where it `fits`. Raises `IndexError` where the table
    has no such timestep, and `MemoryError`.
    """
    shape, timesteps, tensors = front_of(inputs, timesteps, parameters, tokens)
    if not torch.is_grad_enabled():
        return front_forward(shape, timesteps, tensors[:3], addresses(tensors[3:]))[0]
    return _Embedded.apply(shape, timesteps, *tensors)


def front_of(
    inputs: Sequence[Tensor], timesteps: Tensor, parameters: Sequence[Tensor], tokens: int
) -> tuple[Front, Tensor, list[Tensor]]:
    """Return the shape of a pass, the timesteps, and inputs and parameters, all as the library takes them."""
    inputs = [one.contiguous() for one in inputs]
    return front_shape(inputs, parameters, tokens), timesteps.contiguous(), [*inputs, *parameters]


def front_shape(inputs: Sequence[Tensor], parameters: Sequence[Tensor], tokens: int) -> Front:
    """Return what the library is to know of embedding."""
    windows, time, _ = inputs[0].shape
    sizes = (ctypes.c_int64 * 3)(*[one.shape[2] for one in inputs])
    table, width = parameters[6], parameters[7].numel()
    return Front(windows, time, tokens, width, sizes, len(table), table.requires_grad, torch.get_num_threads())


def front_forward(
    shape: Front, timesteps: Tensor, inputs: Sequence[Tensor], table: Any
) -> tuple[Float[Tensor, "batch tokens width"], Tensor]:
    """Return the tokens, and what `front_backward` needs of the pass; `table`: `addresses` of the parameters."""
    tokens = empty(shape.windows, shape.tokens, shape.width)
    moments = empty(shape.windows, shape.tokens, 2)
    failed = loaded().front_forward(
        ctypes.byref(shape), addresses(inputs), address(timesteps), table, address(moments), address(tokens)
    )
    check(failed, shape, timesteps)
    return tokens, moments


def front_backward(
    shape: Front, timesteps: Tensor, moments: Tensor, tensors: Sequence[Tensor], gradient: Tensor,
    sums: Float[Tensor, "threads all"],
) -> None:  # fmt: skip
    """Add the gradients of the parameters to `sums`; `gradient` is the tokens'."""
    failed = loaded().front_backward(
        ctypes.byref(shape), addresses(tensors[:3]), address(timesteps), addresses(tensors[3:]),
        offsets_of(tensors[3:]), address(moments), address(gradient), address(sums),
    )  # fmt: skip
    check(failed)


class _Embedded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shape: Front, timesteps: Tensor, *tensors: Tensor) -> Tensor:
        tokens, moments = front_forward(shape, timesteps, tensors[:3], addresses(tensors[3:]))
        ctx.shape = shape
        ctx.save_for_backward(timesteps, moments, *tensors)
        return tokens

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:  # type: ignore[bad-override]
        timesteps, moments, *tensors = ctx.saved_tensors
        parameters = tensors[3:]
        sums = zeros(parameters, ctx.shape.threads)
        front_backward(ctx.shape, timesteps, moments, tensors, grad_outputs[0].contiguous(), sums)
        gradients = [
            gradient if parameter.requires_grad else None
            for gradient, parameter in zip(added_up(sums, parameters), parameters, strict=True)
        ]
        return (None, None, None, None, None, *gradients)


def imitation_loss_of(
    states: Float[Tensor, "batch time width"],
    actions: Float[Tensor, "batch time action_dim"],
    mask: Bool[Tensor, "batch time"],
    parameters: Sequence[Tensor],
    *,
    bounded: bool,
    absolute: bool,
) -> Float[Tensor, ""]:
    """Return `losses.imitation_loss` of the actions that are read off hidden states.

    `parameters`: gain and shift of the last norm, weight and bias of the action head; `bounded` puts a tanh behind it.
    Only where `readable`. Raises `MemoryError`.
    """
    states = states.contiguous()
    shape = tail_of(states, actions, bounded=bounded, absolute=absolute)
    return _Loss.apply(shape, actions.contiguous(), mask.contiguous(), states, *parameters)


def tail_of(states: Tensor, actions: Tensor, *, bounded: bool, absolute: bool) -> Tail:
    """Return the shape of reading actions off states."""
    return Tail(*states.shape, actions.shape[-1], bounded, absolute, torch.get_num_threads())


def tail(
    shape: Tail, actions: Tensor, mask: Tensor, states: Tensor, parameters: Sequence[Tensor],
    sums: Float[Tensor, "threads all"] | None,
) -> tuple[Float[Tensor, ""], Float[Tensor, "batch time width"] | None]:  # fmt: skip
    """Return the loss; where there are `sums`, also the gradient of the states, and add the parameters' to them."""
    loss = empty()
    gradient = None if sums is None else torch.empty_like(states)
    failed = loaded().tail(
        ctypes.byref(shape), address(states), address(actions), address(mask), addresses(parameters),
        offsets_of(parameters), address(loss), None if gradient is None else address(gradient),
        None if sums is None else address(sums),
    )  # fmt: skip
    check(failed)
    return loss, gradient


class _Loss(torch.autograd.Function):
    """Its gradients cost little beside its value, and are computed with it."""

    @staticmethod
    def forward(ctx: Any, shape: Tail, actions: Tensor, mask: Tensor, states: Tensor, *parameters: Tensor) -> Tensor:
        sums = zeros(parameters, shape.threads) if any(ctx.needs_input_grad) else None
        loss, gradient = tail(shape, actions, mask, states, parameters, sums)
        ctx.gradients = () if sums is None else (gradient, *added_up(sums, parameters))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:  # type: ignore[bad-override]
        return (None, None, None, *(gradient * grad_outputs[0] for gradient in ctx.gradients))


def check(failed: int, shape: Front | None = None, timesteps: Tensor | None = None) -> None:
    """Raise what the library's answer means, where it is not 0."""
    if failed == NO_SUCH_TIMESTEP and shape is not None and timesteps is not None:
        low, high = timesteps.aminmax()
        raise IndexError(f"timesteps {int(low)} to {int(high)}; the table has embeddings for 0 to {shape.length - 1}.")
    if failed:
        raise MemoryError("no memory for the scratch of a few tokens; make batches smaller.")
