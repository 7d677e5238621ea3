"""Several runs that take their updates together: on a GPU as one graph, each on a stream of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor

from foretell.training.captured import CapturedTraining, Replayed

Measured = Mapping[str, Tensor | float]


class Together:
    """The next update of several trainings as one graph: a small network leaves most of a GPU idle, several fill it.

    Each takes the updates that it would take alone, by the same operators.
    """

    def __init__(self, members: Sequence[CapturedTraining]):
        self.members = tuple(members)
        self._loads = [member.loads for member in self.members]
        device = self.members[0].device
        graph = device.type == "cuda"
        self._streams = [torch.cuda.Stream(device) for _ in self.members] if graph else []
        self._replayed = Replayed(device, self._branch, self._enter) if graph else None

    def is_of(self, members: Sequence[CapturedTraining]) -> bool:
        """Whether it takes the updates of these, and of no other, as they lie now."""
        return set(members) == set(self.members) and self._loads == [member.loads for member in self.members]

    def update(self, updates: Sequence[int]) -> list[Measured | BaseException]:
        """Take update number `updates[i]` of member i; return what each measured, or the error that ended it there."""
        for member, update in zip(self.members, updates, strict=True):
            member.begin(update)
        if self._replayed is None:
            for member in self.members:
                member.compute()
        else:
            self._replayed.run()
        return [_measured(member, update) for member, update in zip(self.members, updates, strict=True)]

    def _enter(self, graph: torch.cuda.CUDAGraph) -> None:
        for member in self.members:
            member.enter(graph)

    def _branch(self, trunk: torch.cuda.Stream) -> None:
        """Compute every member on its own stream; all begin after what is on `trunk`, which goes on after all."""
        for member, stream in zip(self.members, self._streams, strict=True):
            stream.wait_stream(trunk)
            with torch.cuda.stream(stream):
                member.compute()
        for stream in self._streams:
            trunk.wait_stream(stream)


def _measured(member: CapturedTraining, update: int) -> Measured | BaseException:
    try:
        return member.measured(update)
    except Exception as error:
        return error


class Meeting:
    """Where runs, each in a thread of its own, meet before every update, which is taken for all of them at once.

    Nobody computes on the device while an update of all is taken: who evaluates or saves is waited for. All updates are
    taken in a thread of their own: a graph can be captured only by a thread in which the libraries have been at work.
    """

    def __init__(self, runs: int):
        """As many threads will come; each has to `leave` in the end."""
        self.runs = runs
        self._condition = threading.Condition()
        self._expected, self._gone = runs, set[threading.Thread]()
        self._agreed: bool | None = None
        self._asked: dict[CapturedTraining, int] = {}
        self._found: dict[CapturedTraining, Measured | BaseException] = {}
        self._together: Together | None = None
        self._work: SimpleQueue[tuple[Future, Callable[[], Any]] | None] = SimpleQueue()
        self._taker: threading.Thread | None = None

    def update(self, training: CapturedTraining, update: int) -> Measured:
        """Take an update of this training, when all others that are expected have asked for theirs."""
        with self._condition:
            self._asked[training] = update
            self._take_if_all_are_here()
            while training not in self._found:
                self._condition.wait()
            found = self._found.pop(training)
        if isinstance(found, BaseException):
            raise found
        return found

    def leave(self) -> None:
        """Be expected no more; the thread that has left before may leave again."""
        with self._condition:
            self._gone.add(threading.current_thread())  # an ident may be another thread's later
            self._take_if_all_are_here()
            self._end_if_all_are_gone()

    def expect_fewer(self, runs: int) -> None:
        """Wait no more for threads that will never come."""
        with self._condition:
            self._expected -= runs
            self._take_if_all_are_here()
            self._end_if_all_are_gone()

    def agree(self, decide: Callable[[], bool]) -> bool:
        """Return what the first who asks decides for all."""
        with self._condition:
            if self._agreed is None:
                self._agreed = decide()
            return self._agreed

    def _take_if_all_are_here(self) -> None:
        if not self._asked or len(self._asked) < self._expected - len(self._gone):
            return
        members, updates = tuple(self._asked), list(self._asked.values())
        self._asked = {}
        try:
            if self._taker is None:
                self._taker = threading.Thread(target=self._take, name="updates of all", daemon=True)
                self._taker.start()
            answers: Future = Future()
            self._work.put((answers, lambda: self._taken(members, updates)))
            self._found.update(answers.result())
        except BaseException as error:
            self._found.update((member, error) for member in members)
        self._condition.notify_all()

    def _end_if_all_are_gone(self) -> None:
        if len(self._gone) >= self._expected:
            self._work.put(None)

    def _take(self) -> None:
        """Body of the thread that takes the updates: on one thread, as each run would by itself, until it is told."""
        torch.set_num_threads(1)
        while (asked := self._work.get()) is not None:
            answers, compute = asked
            try:
                answers.set_result(compute())
            except BaseException as error:
                answers.set_exception(error)

    def _taken(
        self, members: Sequence[CapturedTraining], updates: Sequence[int]
    ) -> dict[CapturedTraining, Measured | BaseException]:
        if self._together is None or not self._together.is_of(members):
            self._together = None  # what it held is free before the next one is made
            self._together = Together(members)
        order = dict(zip(members, updates, strict=True))
        answers = self._together.update([order[member] for member in self._together.members])
        return dict(zip(self._together.members, answers, strict=True))
