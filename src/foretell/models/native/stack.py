"""A stack of pre-norm blocks through the C library: the same function as `models.layers.Block`, one after the other."""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from foretell.models.native.building import Native, native
from foretell.models.recorded import is_recorded

PLAIN = (Tensor, nn.Parameter)
"""Types of tensors whose numbers lie where they say."""
EPS = 1e-5
"""Added to the variance by `layer_norm` of kernels.h."""
_HOOKS = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", lambda _: None)
"""Says who looks on at what is saved for a backward pass (`torch.autograd.graph.saved_tensors_hooks`)."""
PARAMETERS = 12
"""Of a block: gain and shift, weight and bias, of norm, queries-keys-values, output, norm, and the two layers."""


class Shape(ctypes.Structure):
    """What `stack.c` knows of a pass."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in (
            "windows", "tokens", "width", "heads", "layers", "outputs", "first", "step", "gelu", "threads", "masks",
            "keep",
        )),
        ("probability", ctypes.c_float), ("key", ctypes.c_uint64),
    ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StackSettings:
    """What all blocks of a stack share; `outputs` are the tokens whose last hidden state is wanted."""

    heads: int
    probability: float
    gelu: bool
    outputs: slice


def usable(*tensors: Tensor) -> bool:
    """Whether the library can be had and takes these: float32 on the CPU, outside of autocast and recordings."""
    return (
        all(type(one) in PLAIN and one.dtype is torch.float32 and one.is_cpu and one.numel() > 0 for one in tensors)
        and not torch.is_autocast_enabled("cpu") and not is_recorded() and native() is not None
    )  # fmt: skip


def parameters_of(module: nn.Module, rows: int, *columns: int) -> tuple[Tensor | None, Tensor | None]:
    """Return weight and bias of a layer as C reads them: float32 on the CPU, of this size, by rows, in one piece.

    None in the place of each that is not: who prunes or parametrizes a module, replaces it or assigns to it may leave
    other tensors than it was made with.
    """
    return as_read(module._parameters.get("weight"), rows, *columns), as_read(module._parameters.get("bias"), rows)


def as_read(found: Tensor | None, *size: int) -> Tensor | None:
    """Return a tensor where it is as C reads it, of this size; else None."""
    if type(found) not in PLAIN or found is None:
        return None
    fits = found.dtype is torch.float32 and found.is_cpu and found.shape == size and found.is_contiguous()
    return found if fits else None


def all_of(found: Sequence[Tensor | None]) -> list[Tensor] | None:
    """Return the tensors; None where one is missing."""
    there = [one for one in found if one is not None]
    return there if len(there) == len(found) else None


def known_norm(module: nn.Module) -> bool:
    """Whether this is the LayerNorm that the library computes."""
    return type(module) is nn.LayerNorm and module.eps == EPS and module.weight is not None and module.bias is not None


def run_stack(
    tokens: Float[Tensor, "batch tokens width"],
    allowed: Bool[Tensor, "#batch 1 tokens tokens"],
    parameters: Sequence[Tensor],
    settings: StackSettings,
    generator: torch.Generator | None,
) -> Float[Tensor, "batch outputs width"]:
    """Transform the tokens by all blocks; only where `usable`. Dropout, where there is a generator, is drawn from it.

    `parameters` are twelve tensors a block. Raises `MemoryError`.
    """
    tokens, allowed = tokens.contiguous(), allowed.contiguous()
    keep = torch.is_grad_enabled() and any(one.requires_grad for one in (tokens, *parameters))
    shape = shape_of(tokens, allowed, parameters, settings, generator, keep=keep)
    if keep:
        return _Stack.apply(tokens, allowed, shape, *parameters)
    return stack_forward(shape, tokens, allowed, addresses(parameters))[0]


def shape_of(
    tokens: Tensor, allowed: Tensor, parameters: Sequence[Tensor], settings: StackSettings,
    generator: torch.Generator | None, *, keep: bool,
) -> Shape:  # fmt: skip
    """Return what the library is to know of a pass; `keep`: a backward pass will come. Draws the key of the dropout."""
    first, stop, step = settings.outputs.indices(tokens.shape[1])
    shape = Shape(
        len(tokens), tokens.shape[1], tokens.shape[2], settings.heads, len(parameters) // PARAMETERS,
        len(range(first, stop, step)), first, step, settings.gelu, torch.get_num_threads(), len(allowed) > 1, keep,
    )  # fmt: skip
    draw_key(shape, settings, generator)
    return shape


def draw_key(shape: Shape, settings: StackSettings, generator: torch.Generator | None) -> None:
    """Switch dropout on for a pass, by a key that is drawn from the generator; without one, off."""
    shape.probability = settings.probability if generator is not None else 0.0
    shape.key = int(torch.randint(2**62, (), generator=generator)) if shape.probability else 0


def empty(*size: int) -> Tensor:
    """Return memory that the library writes to, whatever type and device PyTorch makes tensors of by default."""
    return torch.empty(size, dtype=torch.float32, device="cpu")


class _Workspace(threading.local):
    """Memory for what a backward pass needs, which the next update of this thread takes again.

    Made anew each time it is megabytes of pages that the system first has to clear. While a graph still holds it,
    another graph gets memory of its own.
    """

    def __init__(self) -> None:
        self._memory = empty(0)
        self._lent: Callable[[], Tensor | None] = lambda: None

    def lend(self, floats: int) -> Float[Tensor, " floats"]:
        if self._lent() is not None or _HOOKS(True) is not None:  # who keeps what is saved may keep an alias
            return empty(floats)
        if len(self._memory) != floats:
            self._memory = empty(0)  # the old is gone before the new is there
            self._memory = empty(floats)
        lent = self._memory[:]
        self._lent = weakref.ref(lent)
        return lent


_workspace = _Workspace()


def workspace(shape: Shape) -> Float[Tensor, " floats"]:
    """Return memory for what the backward pass of such a pass needs; it is lent out until nobody holds it."""
    return _workspace.lend(loaded().kept_floats(ctypes.byref(shape)))


class _Stack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, allowed: Tensor, shape: Shape, *parameters: Tensor) -> Tensor:
        hidden, kept = stack_forward(shape, tokens, allowed, addresses(parameters))
        ctx.shape = shape
        ctx.save_for_backward(tokens, allowed, kept, *parameters)
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:  # type: ignore[bad-override]
        tokens, allowed, kept, *parameters = ctx.saved_tensors
        sums = zeros(parameters, ctx.shape.threads)
        downstream = stack_backward(ctx.shape, tokens, allowed, kept, parameters, grad_outputs[0], sums)
        return (downstream, None, None, *added_up(sums, parameters))


def stack_forward(
    shape: Shape, tokens: Tensor, allowed: Tensor, table: Any
) -> tuple[Float[Tensor, "batch outputs width"], Tensor]:
    """Return the last hidden states, and what `stack_backward` needs of the pass; `table`: parameters' `addresses`."""
    library = loaded()
    hidden = tokens.new_empty(shape.windows, shape.outputs, shape.width)
    kept = workspace(shape) if shape.keep else tokens.new_empty(0)
    with library.one_thread_a_product():
        failed = library.forward(
            ctypes.byref(shape), library.product, table, address(allowed), address(tokens), address(kept),
            address(hidden),
        )  # fmt: skip
    check(failed, shape)
    return hidden, kept


def stack_backward(
    shape: Shape, tokens: Tensor, allowed: Tensor, kept: Tensor, parameters: Sequence[Tensor], upstream: Tensor,
    sums: Float[Tensor, "threads all"],
) -> Float[Tensor, "batch tokens width"]:  # fmt: skip
    """Return the gradient of the tokens, and add those of the parameters to `sums`."""
    library, upstream, downstream = loaded(), upstream.contiguous(), torch.empty_like(tokens)
    with library.one_thread_a_product():
        failed = library.backward(
            ctypes.byref(shape), library.product, addresses(parameters), offsets_of(parameters), address(allowed),
            address(tokens), address(kept), address(upstream), address(downstream), address(sums),
        )  # fmt: skip
    check(failed, shape)
    return downstream


def loaded() -> Native:
    """Return the libraries; only where `usable`."""
    library = native()
    assert library is not None, "ask usable() first"
    return library


def check(failed: int, shape: Shape) -> None:
    """Raise what the library's answer means, where it is not 0."""
    if failed:
        raise MemoryError(f"no memory for {shape.windows} windows of {shape.tokens} tokens; make batches smaller.")


def zeros(parameters: Sequence[Tensor], threads: int) -> Float[Tensor, "threads all"]:
    """Return zeros for each thread's gradients of all parameters, one after the other."""
    return empty(threads, offsets_of(parameters)[-1]).zero_()


def offsets_of(parameters: Sequence[Tensor]) -> ctypes.Array:
    """Return where in a row of `zeros` the gradient of each parameter begins, and where the last ends."""
    return _offsets(tuple([parameter.numel() for parameter in parameters]))


@lru_cache(maxsize=64)
def _offsets(sizes: tuple[int, ...]) -> ctypes.Array:
    return (ctypes.c_int64 * (len(sizes) + 1))(0, *accumulate(sizes))


def added_up(sums: Float[Tensor, "threads all"], parameters: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradient of each parameter: the sum of all threads'."""
    return parts_of(sums[0] if len(sums) == 1 else sums.sum(0), parameters)


def parts_of(total: Float[Tensor, " all"], parameters: Sequence[Tensor]) -> list[Tensor]:
    """Return where in a row of gradients that of each parameter lies, in its shape."""
    parts = total.split([parameter.numel() for parameter in parameters])
    return [part.view_as(parameter) for part, parameter in zip(parts, parameters, strict=True)]


def address(tensor: Tensor) -> ctypes.c_void_p:
    """Return where a contiguous tensor lies; it does not keep it alive."""
    return ctypes.c_void_p(tensor.data_ptr())


def addresses(tensors: Sequence[Tensor]) -> Any:
    """Return a table of where contiguous tensors lie."""
    return (ctypes.c_void_p * len(tensors))(*[tensor.data_ptr() for tensor in tensors])
