"""On which device a network is trained, and in which way its updates are taken there."""

from __future__ import annotations

import copy
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from foretell.core.errors import UsageError
from foretell.core.files import read_json
from foretell.models.interface import SequenceModel
from foretell.sequences.resident import CopiedWindows, ResidentWindows, resident_bytes
from foretell.sequences.windows import WindowSampler
from foretell.training.captured import CapturedTraining
from foretell.training.configs import ComputeConfig, Precision, TrainingConfig
from foretell.training.loop import Evaluate
from foretell.training.parallel import ParallelTraining, SharedRun
from foretell.training.processes import ALONE, Processes
from foretell.training.run_folder import RunFolder
from foretell.training.sequence import SequenceTraining
from foretell.training.together import Meeting

PLACEABLE = ("decision-transformer", "lstm", "mlp")
"""Networks that compute where their batch lies, and whose loss is a mean over its real timesteps."""
CAPTURABLE = ("decision-transformer", "mlp")
"""Those that read nothing back while they do, so that an update can be a graph."""
_INSIDE = threading.Lock()
_BEFORE: list[tuple[bool, bool]] = []
"""What cuDNN was told when each thread came that trains on a GPU; the first's is the caller's own."""
SHARE_FOR_DATA = 0.5
"""Of a GPU's free memory, what a dataset may take; the rest is for weights and for the update."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A device, the numbers computed in, and the processes that train there."""

    device: torch.device
    precision: Precision = "float32"
    processes: Processes = ALONE
    meeting: Meeting | None = None
    """Where runs of this process take their updates together, those that can be captured."""

    @classmethod
    def of(
        cls, config: ComputeConfig, processes: Processes = ALONE, meeting: Meeting | None = None,
        algorithm: str = PLACEABLE[0],
    ) -> Place:  # fmt: skip
        """Find what was asked for; "auto" is the CPU for a network that trains nowhere else.

        Raises `UsageError` where the machine has no such device.
        """
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        name = ("cuda" if found and algorithm in PLACEABLE else "cpu") if config.device == "auto" else config.device
        if name == "cpu":
            return cls(device=torch.device("cpu"), precision=config.precision, processes=processes)
        kind, _, index = name.partition(":")
        if index and not processes.alone:
            raise UsageError(f"--device {name}: {processes.launch.count} processes take one GPU each; give {kind}.")
        number = int(index) if index else processes.launch.local_rank
        if max(number, processes.launch.local_count - 1) >= found:  # refused in each: the first alone speaks
            there = f"PyTorch finds GPUs cuda:0 to cuda:{found - 1}" if found else "PyTorch finds no GPU"
            more = "" if processes.alone else f" for {processes.launch.local_count} processes"
            raise UsageError(f"--device {name}{more}: {there}; expected one that is there, or --device cpu.")
        return cls(
            device=torch.device(kind, number), precision=config.precision, processes=processes, meeting=meeting
        )  # fmt: skip

    @property
    def plain(self) -> bool:
        """Whether this is one process on the CPU in float32, which every network trains in."""
        return self.device.type == "cpu" and self.precision == "float32" and self.processes.alone

    def facts(self, folder: Path) -> dict[str, Any]:
        """Return what `config.json` says of it; nothing where the folder's says nothing and means the plain one."""
        path = folder / "config.json"
        if self.plain and path.exists() and "device" not in read_json(path):
            return {}
        return {"device": self.device.type, "precision": self.precision, "processes": self.processes.launch.count}

    def check(self, algorithm: str, batch_size: int) -> None:
        """Raise `UsageError` for a network or a batch that cannot be trained here."""
        if not self.plain and algorithm not in PLACEABLE:
            raise UsageError(
                f"--algorithm {algorithm} trains on the CPU, in float32, in one process; "
                f"expected one of {', '.join(PLACEABLE)}, or no such flag."
            )
        if batch_size < self.processes.launch.count:
            raise UsageError(
                f"--batch-size {batch_size} for {self.processes.launch.count} processes; expected a window for each."
            )

    @contextmanager
    def as_meant(self) -> Generator[None]:
        """On a GPU, tell PyTorch which one it is, and that float32 is meant and the same twice: of its own accord cuDNN
        computes convolutions and recurrent layers in 19 bits, and some in no order.

        At the end of the last of several threads that are in here all is put back.
        """
        if self.device.type != "cuda":
            yield
            return
        cudnn = torch.backends.cudnn
        with _INSIDE:
            _BEFORE.append((cudnn.allow_tf32, cudnn.deterministic))
            cudnn.allow_tf32, cudnn.deterministic = False, True
        try:
            with torch.cuda.device(self.device):
                yield
        finally:
            with _INSIDE:
                last = _BEFORE.pop()
                if not _BEFORE:
                    cudnn.allow_tf32, cudnn.deterministic = last

    def run(self, folder: Path, config: dict[str, Any]) -> RunFolder:
        """Open a run folder for `config`, by the first process where there are several."""
        if self.processes.alone:
            return RunFolder(folder, config)
        return SharedRun(folder, config, self.processes)


def placed(
    place: Place, algorithm: str, network: SequenceModel, sampler: WindowSampler, config: TrainingConfig, seed: int
) -> SequenceTraining:
    """Return the training of `network` at this place: of itself on the CPU, elsewhere of a copy that lies there."""
    device, precision = place.device, place.precision
    model = network if device.type == "cpu" else copy.deepcopy(network).to(device)
    if not place.processes.alone:
        return ParallelTraining(model, sampler, config, seed, precision, place.processes)
    if device.type == "cpu":
        return SequenceTraining(model, sampler, config, seed, precision)
    fits = _fits(sampler, place)
    if place.meeting and not (fits and algorithm in CAPTURABLE):
        place.meeting.leave()
    if not fits:
        return SequenceTraining(model, CopiedWindows(sampler, device), config, seed, precision)
    windows = ResidentWindows(sampler, device)
    if algorithm not in CAPTURABLE:
        return SequenceTraining(model, windows, config, seed, precision)
    training = CapturedTraining(model, windows, config, seed, precision)
    training.meeting = place.meeting
    return training


def evaluated_here(evaluate: Evaluate, trained: SequenceModel, network: SequenceModel) -> Evaluate:
    """Return `evaluate` of `network`, which acts on the CPU, with the weights that `trained` has by then."""
    if trained is network:
        return evaluate

    def measure() -> Any:
        network.load_state_dict(trained.state_dict())
        return evaluate()

    return measure


def _fits(sampler: WindowSampler, place: Place) -> bool:
    """Whether the device holds the data; of runs that meet, those of each: all or none, as the first finds it."""

    def decide() -> bool:
        copies = place.meeting.runs if place.meeting else 1
        return copies * resident_bytes(sampler) <= SHARE_FOR_DATA * torch.cuda.mem_get_info(place.device)[0]

    return place.meeting.agree(decide) if place.meeting else decide()
