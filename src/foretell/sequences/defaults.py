"""PyTorch's own defaults while Foretell learns and acts, whatever a caller has set for code of theirs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
_MODES = getattr(torch._C, "_len_torch_function_stack", lambda: 1)
"""How many look on at calls of PyTorch, among them whoever says where tensors are made: to ask who takes longer."""
_lock = threading.Lock()
_inside: list[torch.dtype] = []
"""The caller's default type, once for each call under way with it put aside."""


def usual_defaults(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Call a function with tensors made on the CPU and in float32 where nothing else is said, without autocast and with
    gradients; all is put back at its end.

    What is made elsewhere would not be what the C libraries read, and what is computed in another precision not what a
    run's configuration says. The default type is the whole process's: it is put back when the last of several threads
    that compute at the same time has ended.
    """

    @wraps(function)
    def called(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        usual = not _inside and torch.get_default_dtype() is torch.float32 and torch.is_grad_enabled()
        if usual and not torch.is_autocast_enabled("cpu") and not _MODES():
            return function(*args, **kwargs)
        with _put_aside():
            return function(*args, **kwargs)

    return called


@contextmanager
def _float32() -> Generator[None]:
    with _lock:
        _inside.append(_inside[0] if _inside else torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        with _lock:
            if len(_inside) == 1:
                torch.set_default_dtype(_inside[0])
            _inside.pop()


@contextmanager
def _put_aside() -> Generator[None]:
    with ExitStack() as put_back:
        put_back.enter_context(_float32())
        if torch.get_default_device().type != "cpu":
            put_back.enter_context(torch.device("cpu"))
        if torch.is_autocast_enabled("cpu"):
            put_back.enter_context(torch.autocast("cpu", enabled=False))
        if torch.is_inference_mode_enabled():
            put_back.enter_context(torch.inference_mode(False))
        put_back.enter_context(torch.enable_grad())
        yield
