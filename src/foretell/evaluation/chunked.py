"""Acting with a network that writes several actions at once."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from foretell.evaluation.conditioned import ConditionedPolicy
from foretell.evaluation.configs import ChunkingConfig, check_chunking
from foretell.models.encoder_decoder import EncoderDecoder
from foretell.sequences.batch import SequenceBatch
from foretell.sequences.normalization import Normalization
from foretell.values.asking import Asking


class ChunkingPolicy(ConditionedPolicy[EncoderDecoder]):
    """Takes the first m of the H actions that the model writes, without looking, then has it write anew.

    Raises `UsageError` where m is more than H.
    """

    def __init__(self, model: EncoderDecoder, normalization: Normalization, asking: Asking, chunking: ChunkingConfig):
        super().__init__(model, normalization, asking)
        check_chunking(chunking, horizon=model.config.horizon)
        self.actions_taken = chunking.actions_taken
        self._written = torch.zeros(0)

    def _decide(self, elapsed: int | Int[np.ndarray, " num_envs"]) -> Tensor:
        if self.actions_taken == 1:
            return super()._decide(elapsed)
        place = elapsed % self.actions_taken
        if isinstance(elapsed, int):
            if place == 0:
                self._written = super()._decide(elapsed)
            return self._written[:, place]
        anew = np.flatnonzero(place == 0)
        if len(anew):
            self._written[anew] = self._of(anew, elapsed)
        return self._written[np.arange(len(elapsed)), place]

    def _choose(self, batch: SequenceBatch) -> Tensor:
        """Return the newest timestep's action, or all that are written where more than one is taken."""
        return super()._choose(batch) if self.actions_taken == 1 else self.model.write(batch)
