"""The processes of one run, and what they tell each other."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from foretell.core.errors import ForetellError, StoppedError
from foretell.core.launching import Launch
from foretell.core.locks import folder_lock
from foretell.core.memory import asked_for
from foretell.core.progress import Progress

Found = TypeVar("Found")

AGREE_EVERY = 10
"""Updates between two agreements on whether to stop: a signal reaches the processes at different updates."""
_PATIENCE = timedelta(days=7)
"""For the first process to learn value functions or to evaluate, while the others wait."""
_HOST = torch.device("cpu")


class Processes:
    """The processes of one run. Process 0 writes and prints; what it finds or fails at, all find or fail at."""

    def __init__(self, launch: Launch | None = None):
        self.launch = launch or Launch()

    @property
    def alone(self) -> bool:
        """Whether there is one process, and nothing to agree on."""
        return self.launch.count == 1

    def share(self, function: Callable[[], Found]) -> Found:
        """Return in every process what `function` returns in the first, the one that calls it; or raise its error."""
        if self.alone:
            return function()
        answer: list[Any] = [None, None]
        if self.launch.speaks:
            try:
                answer[0] = function()
            except ForetellError as error:
                answer[1] = error
        with _connected():
            distributed.broadcast_object_list(answer, src=0, device=_HOST)
        if answer[1] is not None:
            raise answer[1]
        return answer[0]

    def average(self, parameters: Sequence[nn.Parameter], numbers: Tensor, weight: Tensor) -> Tensor:
        r"""Replace gradients by $\sum_r w_r g_r / \sum_r w_r$ over the processes r, and return `numbers` likewise.

        With $w_r$ the real timesteps of a process's windows, this is the gradient of the mean over all of them.
        """
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([*(gradient.flatten() for gradient in gradients), numbers, numbers.new_ones(1)])
        flat = flat * weight.to(flat.dtype)
        with _connected():
            distributed.all_reduce(flat)
        flat = flat[:-1] / flat[-1]
        sizes = [gradient.numel() for gradient in gradients]
        *averaged, numbers = flat.split([*sizes, len(numbers)])
        for gradient, mean in zip(gradients, averaged, strict=True):
            gradient.copy_(mean.view_as(gradient))
        return numbers

    def agreed(self, progress: Progress) -> Progress:
        """Return a report that stops all processes at the same update once one of them was asked to."""
        if self.alone:
            return progress
        asked: list[int] = []

        def report(done: int, total: int, **measurements: float) -> None:
            try:
                progress(done, total, **measurements)
            except StoppedError as stopped:
                asked.append(stopped.signal_number)
            if done % AGREE_EVERY == 0 or done == total:
                number = torch.tensor(asked[0] if asked else 0)
                with _connected():
                    distributed.all_reduce(number, op=distributed.ReduceOp.MAX)
                if number:
                    raise StoppedError(int(number))

        return report

    @contextmanager
    def lock(self, folder: Path) -> Generator[None]:
        """Hold the folder as `folder_lock` does, for all processes together."""
        with ExitStack() as held:
            self.share(lambda: held.enter_context(folder_lock(folder)))
            yield


ALONE = Processes()


@contextmanager
def joined(launch: Launch, device: str = "cpu") -> Generator[Processes]:
    """Meet the other processes of the launch while the block runs; `device` is the one asked for."""
    if launch.count == 1:
        yield ALONE
        return
    accelerated = device != "cpu" and torch.cuda.is_available()
    distributed.init_process_group("cpu:gloo,cuda:nccl" if accelerated else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(launch)
    finally:
        distributed.destroy_process_group()


@contextmanager
def _connected() -> Generator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo says so when a connection is gone
        if asked_for(error):
            raise  # memory of this process, not the others
        reason = str(error).splitlines()[0]
        raise ForetellError(
            f"another process of this run has ended ({reason}); see its message. The same command continues."
        ) from error
