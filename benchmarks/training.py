"""Updates a second of a Decision Transformer, data sampling included, beside the peers'; and the matmul floor."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from benchmarks import peers
from benchmarks.floor import TOKENS, floor_seconds, products
from benchmarks.making import REFERENCE, in_words, random_model, random_sampler
from benchmarks.measuring import Options, Row, alternate, installed, rate
from foretell.models.configs import DecisionTransformerConfig
from foretell.models.dropout import dropout
from foretell.models.native.building import kernels
from foretell.presets.league import MODEL
from foretell.sequences.batch import SequenceBatch
from foretell.sequences.windows import WindowSampler
from foretell.training.configs import TrainingConfig
from foretell.training.sequence import SequenceTraining

CONFIG = TrainingConfig()
"""Batch 64, AdamW, gradients clipped to 0.25."""


def rows(options: Options) -> Iterator[Row]:
    """Yield updates a second at three widths on two threads, and of the preset on the one thread it trains with."""
    updates, repetitions = (4, 1) if options.quick else (40, 5)
    available = torch.get_num_threads()
    cases = [(f"width {width}", replace(REFERENCE, width=width), 2, 1) for width in (128, 64, 32)]
    cases.append(("the preset's model", MODEL, 1, 5))
    for name, config, threads, more in cases:
        torch.set_num_threads(threads)
        with tempfile.TemporaryDirectory() as folder:
            sampler = random_sampler(Path(folder), config.context_length)
            yield from _rows(name, config, sampler, more * updates, repetitions)
        if config.dropout:
            yield _dropout_row(config, updates, repetitions)
    torch.set_num_threads(available)


def _dropout_row(config: DecisionTransformerConfig, updates: int, repetitions: int) -> Row:
    """Our dropout beside PyTorch's, on the tokens of one batch, backward pass included."""
    shape = (CONFIG.batch_size, TOKENS * config.context_length, config.width)
    tokens, generator = torch.randn(shape, requires_grad=True), torch.Generator().manual_seed(0)
    gradient = torch.ones(shape)
    sides = (
        lambda _: dropout(tokens, config.dropout, generator).backward(gradient),
        lambda _: functional.dropout(tokens, config.dropout).backward(gradient),
    )
    for side in sides:
        rate(side, 3)
    comparison = alternate(
        lambda: rate(sides[0], 10 * updates), lambda: rate(sides[1], 10 * updates), repetitions, higher_is_better=True
    )
    return Row(
        benchmark="training", name=f"dropout at width {config.width}", unit="calls/s",
        setting={"shape": list(shape), "dropout": config.dropout, "threads": torch.get_num_threads()},
        peer_name="torch.nn.functional.dropout", peer_version=torch.__version__, **comparison.fields(),
    )  # fmt: skip


AIMS = {128: 2.0, 64: 2.5, 32: 3.0}
"""How many times faster than the faster peer we want to be at each width."""


def _rows(
    name: str, config: DecisionTransformerConfig, sampler: WindowSampler, updates: int, repetitions: int
) -> Iterator[Row]:
    """Yield one row for each peer that is at hand, each timed in turn with us; one without a peer where none is."""
    floor = 1 / floor_seconds(products(config, CONFIG.batch_size), 3 * repetitions)
    for peer, peer_name, peer_version in _peers(config, sampler) or [(None, None, None)]:
        ours = SequenceTraining(random_model(config), sampler, CONFIG, seed=0)
        for side in (ours, peer):
            if side:
                rate(side.update, 3)
        comparison = alternate(
            partial(rate, ours.update, updates), partial(rate, peer.update, updates) if peer else None, repetitions,
            higher_is_better=True,
        )  # fmt: skip
        fields, aim = comparison.fields(), AIMS.get(config.width) if config.dropout else None
        yield Row(
            benchmark="training", name=name, unit="updates/s",
            setting={**in_words(config), "batch_size": CONFIG.batch_size, "optimizer": "AdamW, fused",
                     "clip_norm": CONFIG.clip_norm, "threads": torch.get_num_threads(), "updates": updates,
                     "kernels": kernels()},
            peer_name=peer_name, peer_version=peer_version,
            bound=f"{aim} times as fast" if aim and peer else None,
            holds=fields["ratio"] >= aim if aim and peer else None,
            extra={"matmul_floor": floor, "share_of_floor": fields["ours"] / floor}, **fields,
        )  # fmt: skip


def _peers(config: DecisionTransformerConfig, sampler: WindowSampler) -> list[tuple[PeerTraining, str, str | None]]:
    found = []
    if installed("transformers"):
        model = peers.hugging_face_model(config)
        found.append(
            (PeerTraining(model, peers.loss, sampler), "transformers DecisionTransformerModel",
             installed("transformers"))
        )  # fmt: skip
    if model := peers.corl_model(config):
        found.append((PeerTraining(model, peers.corl_loss, sampler), "CORL DecisionTransformer", None))
    return found


class PeerTraining:
    """The same update with a peer's network: our sampler's batches, fused AdamW, clipped gradients."""

    def __init__(
        self, model: nn.Module, loss: Callable[[nn.Module, SequenceBatch], torch.Tensor], sampler: WindowSampler
    ):
        self.model, self.loss, self.sampler = model.train(), loss, sampler
        self.parameters = list(self.model.parameters())
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=CONFIG.learning_rate, weight_decay=CONFIG.weight_decay, fused=True
        )

    def update(self, update: int) -> None:
        """Sample, forward, backward, clip, step."""
        loss = self.loss(self.model, self.sampler.batch(update, CONFIG.batch_size))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, CONFIG.clip_norm)
        self.optimizer.step()
