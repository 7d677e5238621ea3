"""Updates a second on a GPU beside Hugging Face's model in eager mode there, and how near that is to what it can do."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks import peers
from benchmarks.floor import Product, products
from benchmarks.making import REFERENCE, in_words, random_model, random_sampler
from benchmarks.measuring import Options, Row, alternate, installed
from foretell.sequences.resident import ResidentWindows
from foretell.sequences.windows import WindowSampler
from foretell.training.captured import WARM_UP, CapturedTraining
from foretell.training.configs import ComputeConfig, Precision, TrainingConfig
from foretell.training.placing import Place, placed
from foretell.training.together import Together

CONFIG = TrainingConfig()
"""Batch 64, AdamW, gradients clipped to 0.25."""
BUDGET = 1_000_000
"""Updates of the report."""
SEEDS = 16
BOUND_SECONDS = 15 * 60
BOUND_RATIO = 5.0
BYTES: dict[Precision, int] = {"float32": 4, "bfloat16": 2}
OPTIMIZER_NUMBERS = 7
"""Numbers of float32 that AdamW must move for each weight: four are read, all but the gradient written."""


def rows(options: Options) -> Iterator[Row]:
    """Yield the rate in both precisions at width 128; nothing where there is no GPU."""
    if not torch.cuda.is_available():
        print("gpu: PyTorch finds no GPU, so nothing was measured and no row is kept.", file=sys.stderr)
        return
    updates, repetitions = (20, 1) if options.quick else (1_000, 5)
    with tempfile.TemporaryDirectory() as folder:
        sampler = random_sampler(Path(folder), REFERENCE.context_length)
        for precision in BYTES:
            place = Place.of(ComputeConfig(device="cuda", precision=precision))
            yield _row(place, sampler, updates, repetitions)
            yield _row_of_seeds(place, sampler, updates, repetitions)


def _row(place: Place, sampler: WindowSampler, updates: int, repetitions: int) -> Row:
    ours = placed(place, "decision-transformer", random_model(REFERENCE), sampler, CONFIG, seed=0)
    peer = HuggingFaceOnGPU(ResidentWindows(sampler, place.device)) if installed("transformers") else None
    for side in (ours, peer):
        if side:
            rate_on_gpu(side.update, 10 * WARM_UP)
    comparison = alternate(
        lambda: rate_on_gpu(ours.update, updates),
        (lambda: rate_on_gpu(peer.update, max(1, updates // 10))) if peer else None,
        repetitions, higher_is_better=True,
    )  # fmt: skip
    fields = comparison.fields()
    limit = roofline(place, sum(one.numel() for one in ours.model.parameters()))
    needed = BUDGET / fields["ours"]
    of_peer = f"{BOUND_RATIO:g} times the peer, " if peer else ""
    return Row(
        benchmark="gpu", name=f"width {REFERENCE.width}, {place.precision}", unit="updates/s",
        setting={**in_words(REFERENCE), "batch_size": CONFIG.batch_size, "precision": place.precision,
                 "captured": isinstance(ours, CapturedTraining), "device": torch.cuda.get_device_name(place.device),
                 "updates": updates},
        peer_name="transformers DecisionTransformerModel, eager, float32" if peer else None,
        peer_version=installed("transformers") if peer else None,
        bound=f"{of_peer}{BUDGET:,} updates in {BOUND_SECONDS // 60} minutes",
        holds=needed <= BOUND_SECONDS and (peer is None or fields["ratio"] >= BOUND_RATIO),
        extra={f"seconds_for_{BUDGET}_updates": needed, "roofline": limit, "share_of_roofline": fields["ours"] / limit},
        **fields,
    )  # fmt: skip


def _row_of_seeds(place: Place, sampler: WindowSampler, updates: int, repetitions: int) -> Row:
    """Updates of all seeds together as one program, beside those of one seed by itself."""
    alone, *members = [
        placed(place, "decision-transformer", random_model(REFERENCE), sampler, CONFIG, seed=seed)
        for seed in range(SEEDS + 1)
    ]
    together = Together([one for one in members if isinstance(one, CapturedTraining)])
    count = len(together.members)

    def all_of(update: int) -> None:
        for found in together.update([update] * count):
            if isinstance(found, BaseException):
                raise found

    rate_on_gpu(all_of, 10 * WARM_UP)
    rate_on_gpu(alone.update, 10 * WARM_UP)
    comparison = alternate(
        lambda: count * rate_on_gpu(all_of, updates), lambda: rate_on_gpu(alone.update, updates), repetitions,
        higher_is_better=True,
    )  # fmt: skip
    limit = roofline(place, sum(one.numel() for one in alone.model.parameters()))
    fields = comparison.fields()
    return Row(
        benchmark="gpu", name=f"{count} seeds in one program, {place.precision}", unit="updates/s",
        setting={**in_words(REFERENCE), "batch_size": CONFIG.batch_size, "precision": place.precision, "seeds": count,
                 "device": torch.cuda.get_device_name(place.device), "updates": updates},
        peer_name="one seed by itself", peer_version=torch.__version__,
        extra={"roofline": limit, "share_of_roofline": fields["ours"] / limit}, **fields,
    )  # fmt: skip


def roofline(place: Place, weights: int) -> float:
    """Return the updates a second that the device allows: products at its measured speed, or memory at its measured
    rate, whichever takes longer."""
    dtype = torch.float32 if place.precision == "float32" else torch.bfloat16
    operations, moved = work(products(REFERENCE, CONFIG.batch_size), BYTES[place.precision], weights)
    return 1 / max(operations / _operations_a_second(place.device, dtype), moved / _bytes_a_second(place.device))


def work(forward: list[Product], size: int, weights: int) -> tuple[float, float]:
    """Return operations and bytes of one update: every product and the two of its backward pass, factors read and
    results written once in numbers of `size` bytes; and the optimiser's pass over the weights."""
    operations = sum(3 * 2 * one.batch * one.rows * one.inner * one.columns for one in forward)
    numbers = sum(
        3 * one.batch * (one.rows * one.inner + one.inner * one.columns + one.rows * one.columns) for one in forward
    )
    return operations, size * numbers + 4 * OPTIMIZER_NUMBERS * weights


def _operations_a_second(device: torch.device, dtype: torch.dtype, width: int = 8192) -> float:
    left, right = (torch.randn(width, width, device=device, dtype=dtype) for _ in range(2))
    result = torch.empty_like(left)
    return 2.0 * width**3 * max(rate_on_gpu(lambda _: torch.mm(left, right, out=result), 5) for _ in range(3))


def _bytes_a_second(device: torch.device, numbers: int = 1 << 28) -> float:
    source = torch.zeros(numbers, device=device)
    target = torch.empty_like(source)
    return 8.0 * numbers * max(rate_on_gpu(lambda _: target.copy_(source), 5) for _ in range(3))


def rate_on_gpu(action: Callable[[int], object], count: int) -> float:
    """Call `action(0)` to `action(count - 1)`; return calls a second, counted until the GPU has done them all."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    for index in range(count):
        action(index)
    torch.cuda.synchronize()
    return count / (time.perf_counter() - started)


class HuggingFaceOnGPU:
    """The same update with the peer's network in eager mode: batches on the device, fused AdamW, clipped gradients."""

    def __init__(self, windows: ResidentWindows):
        self.model, self.windows = peers.hugging_face_model(REFERENCE).to(windows.device).train(), windows
        self.parameters = list(self.model.parameters())
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=CONFIG.learning_rate, weight_decay=CONFIG.weight_decay, fused=True
        )

    def update(self, update: int) -> None:
        """Gather, forward, backward, clip, step."""
        loss = peers.loss(self.model, self.windows.batch(update, CONFIG.batch_size))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, CONFIG.clip_norm)
        self.optimizer.step()
