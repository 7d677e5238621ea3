"""Learning the settings of a Gaussian process from the evidence: once a process for the same timesteps."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from foretell.agents.untraced import PlainAdam
from foretell.core.errors import DivergedError
from foretell.core.progress import Progress
from foretell.values.configs import DynamicsConfig
from foretell.values.gaussian_process import GaussianProcess

KEPT = 8
"""Settings that are remembered, some kilobytes each: several seeds imagine from one dataset, and all learn the same."""
_learned: dict[str, tuple[Mapping[str, Tensor], float]] = {}


def maximise_evidence(
    process: GaussianProcess, inputs: Float[Tensor, "rows inputs"], targets: Float[Tensor, "rows targets"],
    config: DynamicsConfig, progress: Progress,
) -> float:  # fmt: skip
    """Learn the settings of `process` from all rows; return the log evidence of all targets, nats.

    A function of its arguments alone, whose answers are remembered. Raises `DivergedError` where learning stops being
    finite.
    """
    key = _key(process, inputs, targets, config)
    if key in _learned:
        settings, evidence = _learned[key]
        process.load_state_dict(settings)
        progress(config.updates, config.updates, evidence=evidence)
        return evidence
    with _one_thread():
        evidence = _learn(process, inputs, targets, config, progress)
    while len(_learned) >= KEPT:
        del _learned[next(iter(_learned))]
    _learned[key] = {name: value.clone() for name, value in process.state_dict().items()}, evidence
    return evidence


def _key(process: GaussianProcess, inputs: Tensor, targets: Tensor, config: DynamicsConfig) -> str:
    """Return a fingerprint of everything that learning reads."""
    read = hashlib.sha256(repr((config, inputs.shape, torch.get_num_threads())).encode())
    for tensor in (inputs, targets, *process.state_dict().values()):
        read.update(tensor.contiguous().numpy().tobytes())
    return read.hexdigest()


@contextmanager
def _one_thread() -> Generator[None]:
    """Keep PyTorch from sharing out matrices of some hundred rows: on cores that others use, threads wait far longer
    than they compute."""
    available = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(available)


def _learn(
    process: GaussianProcess, inputs: Tensor, targets: Tensor, config: DynamicsConfig, progress: Progress
) -> float:
    optimizer = PlainAdam(process.parameters(), lr=config.learning_rate)
    evidence = math.nan
    for update in range(config.updates):
        found, slopes = process.evidence_and_slopes(inputs, targets)
        evidence = -float(found.sum())
        if not math.isfinite(evidence):
            raise DivergedError(
                f"dynamics, update {update}: log evidence {evidence}; expected a finite number. "
                "Lower the learning_rate of the dynamics, or run `foretell inspect` on the data."
            )
        for setting, slope in zip(process.parameters(), slopes, strict=True):
            setting.grad = slope
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * 0.5 * (1 + math.cos(math.pi * update / config.updates))
        optimizer.step()
        process.keep_in_bounds()
        progress(update + 1, config.updates, evidence=evidence)
    return evidence
