"""Predicted against real trajectories of Pendulum: the Trajectory Transformer, and a model of single steps.

python -m benchmarks rollouts                  # records 110,000 random timesteps first; keeps rows and figures
python -m benchmarks.rollouts FILE.hdf5        # on Pendulum data of your own; prints rows, figures go to --out

Both models learn from the same windows of the same episodes, in as many updates of the same optimiser. Then, from
episodes that neither has seen, both are given the recorded actions and foretell the observations, each going on from
its own predictions. Once observations are whole; once without the angular velocity, where one observation and action
do not determine the next. Rewards, which would give the velocity away, are set to 0.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.measuring import Options, Row
from benchmarks.rollout_figure import ErrorCurves, Trajectories, draw_rollout_errors, draw_rollout_trajectories
from foretell.collection.recipes import collect_random
from foretell.core.seeding import derive_seed, stream
from foretell.datasets.dataset import Dataset
from foretell.datasets.registry import open_dataset
from foretell.evaluation.planning import likeliest
from foretell.models.configs import SequenceShape, TrajectoryTransformerConfig
from foretell.models.initialization import initialize
from foretell.models.trajectory_transformer import TrajectoryTransformer
from foretell.sequences.batch import SequenceBatch
from foretell.sequences.discretization import Discretizer
from foretell.sequences.normalization import Normalization
from foretell.sequences.scaling import ActionRange
from foretell.sequences.windows import WindowSampler
from foretell.training.configs import TrainingConfig, learning_rate_at

FIGURES = Path(__file__).parent / "results"
NAMES = ("cos(angle)", "sin(angle)", "velocity")
TRANSFORMER, SINGLE, ROUNDED = "Trajectory Transformer", "single-step model", "single-step model, rounded to its bins"
CONSTANT = "mean of the data"
BEHIND, STEPS, AT, SHOWN_AT = 10, 100, 50, (1, 5, 10, 20, 50, 100)
"""Timesteps up to a start, of which a model sees what it has context for; timesteps foretold; where it is compared."""
MOST_OF_SINGLE = 0.5
"""The Trajectory Transformer's error after `AT` timesteps is to be at most this share of the single-step model's."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is observed, and how the Trajectory Transformer learns it; actions are given, so they are not learned."""

    title: str
    observed: int
    model: TrajectoryTransformerConfig
    training: TrainingConfig


SYMBOLS = TrajectoryTransformerConfig(
    context_length=4, width=64, layers=2, heads=2, dropout=0.0, bins=300, binning="uniform", smoothing=1.0,
    action_weight=0.0,
)  # fmt: skip
TRAINING = TrainingConfig(updates=3_000, learning_rate=3e-3, clip_norm=1.0, weight_decay=0.0)
SETTINGS = (
    Setting(title="whole observation", observed=3, model=SYMBOLS, training=TRAINING),
    Setting(
        title="without the velocity", observed=2, model=replace(SYMBOLS, context_length=10), training=TRAINING,
    ),
)  # fmt: skip
SINGLE_RATE = 1e-3
"""Learning rate of the single-step model: at the other one it does not settle."""
WIDTH, LAYERS, LEAST_LOG_VARIANCE = 200, 4, -10.0
"""As Chua et al. 2018 have it for their larger tasks; about as many weights as the Trajectory Transformer."""


class SingleStep(nn.Module):
    """A Gaussian of the change of the observation, given observation and action (Chua et al. 2018, one network)."""

    def __init__(self, shape: SequenceShape, generator: torch.Generator):
        super().__init__()
        numbers = shape.observation_shape[0]
        sizes = (numbers + shape.action_dim, *[WIDTH] * LAYERS, 2 * numbers)
        self.layers = nn.ModuleList(nn.Linear(before, behind) for before, behind in pairwise(sizes))
        initialize(self, generator)
        self.register_buffer("scale", torch.ones(numbers))

    def prepare(self, sampler: WindowSampler) -> None:
        """Measure how much observations change, so that every number's change is learned in its own deviations."""
        batch = sampler.batch(0, 4_096)
        self.scale.copy_((batch.observations[:, -1] - batch.observations[:, -2]).std(0).clamp_min(1e-6))

    def forward(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of the change, in deviations."""
        hidden = torch.cat([observations, actions], -1)
        for layer in self.layers[:-1]:
            hidden = functional.silu(layer(hidden))
        mean, log_variance = self.layers[-1](hidden).chunk(2, -1)
        return mean, LEAST_LOG_VARIANCE + functional.softplus(log_variance - LEAST_LOG_VARIANCE)

    def loss(self, batch: SequenceBatch) -> Tensor:
        """Negative log-likelihood of every step inside the windows, without its constant."""
        mean, log_variance = self(batch.observations[:, :-1], batch.actions[:, :-1])
        change = (batch.observations[:, 1:] - batch.observations[:, :-1]) / self.scale
        errors = 0.5 * ((change - mean).square() * (-log_variance).exp() + log_variance).mean(-1)
        known = batch.mask[:, 1:] & batch.mask[:, :-1]
        return torch.where(known, errors, 0.0).sum() / known.sum()

    @torch.inference_mode()
    def foretell(self, past: SequenceBatch, actions: Tensor, bins: Discretizer | None = None) -> Tensor:
        """Return the observations after each action, mean after mean; with `bins` each rounded to those of a model."""
        observation, found = past.observations[:, -1], []
        for step in range(actions.shape[1]):
            observation = observation + self.scale * self(observation, actions[:, step])[0]
            if bins is not None:
                columns = functional.pad(observation, (0, len(bins.edges) - observation.shape[1]))
                observation = bins.decode(bins.encode(columns))[:, : observation.shape[1]]
            found.append(observation)
        return torch.stack(found, 1)


@torch.inference_mode()
def foretell(model: TrajectoryTransformer, past: SequenceBatch, actions: Tensor) -> Tensor:
    """Return the observations after each action, likeliest symbol after likeliest symbol.

    The window slides over what was foretold; what it has of rewards is foretold too.
    """
    first, longest = model.observation_slots, model.config.context_length - 1
    place = slice(first, first + model.action_slots)
    taken = model.discretizer.encode(functional.pad(actions, (first, 2)))[..., place]
    symbols, found = model.symbols(past)[:, -longest:], []
    for step in range(actions.shape[1]):
        symbols[:, -1, place] = taken[:, step]
        following = likeliest(model, symbols.flatten(1)[:, :-2], 2 + first, beam_width=1)
        symbols[:, -1, -2:] = following[:, :2]
        newest = functional.pad(following[:, 2:], (0, model.slots - first))
        symbols = torch.cat([symbols, newest[:, None]], 1)[:, -longest:]
        found.append(model.numbers(following[:, 2:], 0))
    return torch.stack(found, 1)


def fit(network: TrajectoryTransformer | SingleStep, sampler: WindowSampler, training: TrainingConfig) -> float:
    """Train; return the seconds of processor time."""
    started = time.process_time()
    network.prepare(sampler)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=training.weight_decay, fused=True)
    for update in range(training.updates):
        optimizer.zero_grad()
        network.loss(sampler.batch(update, training.batch_size)).backward()
        nn.utils.clip_grad_norm_(network.parameters(), training.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(training, update)
        optimizer.step()
    return time.process_time() - started


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Starts in episodes that are not trained on: windows that end there, and what was done and seen afterwards."""

    past: SequenceBatch
    actions: Tensor
    real: Tensor


def split(dataset: Dataset, observed: int, context: int, steps: int) -> tuple[WindowSampler, HeldOut]:
    """Return windows of the first nine tenths of the episodes, and one start in each of the others.

    Observations are cut to their first `observed` numbers. Starts have `BEHIND` timesteps behind them and `steps`
    ahead; episodes too short for that are left out.
    """
    dataset = replace(
        dataset, observations=np.asarray(dataset.observations)[:, :observed], next_observations=None,
        rewards=np.zeros(dataset.num_steps, np.float32),
    )  # fmt: skip
    cut = int(dataset.episode_ends[max(0, dataset.num_episodes * 9 // 10 - 1)])
    seen, unseen = dataset.section(0, cut), dataset.section(cut, dataset.num_steps)
    normalization = Normalization.fit(seen, ActionRange(low=(-2.0,), high=(2.0,)))
    samplers = [
        WindowSampler(part, normalization, context_length=context, seed=0, told=np.zeros(part.num_steps, np.float32))
        for part in (seen, unseen)
    ]
    room = unseen.episode_lengths - BEHIND - steps
    free = stream(0, "rollout starts").random(len(room))
    last = (unseen.episode_starts + BEHIND - 1 + (free * room).astype(np.int64))[room > 0]
    rows = last[:, None] + np.arange(steps)
    actions = normalization.actions(np.asarray(unseen.actions)[rows])
    real = normalization.observations(np.asarray(unseen.observations)[rows + 1])
    past = samplers[1].windows(last)
    return samplers[0], HeldOut(past=past, actions=torch.from_numpy(actions), real=torch.from_numpy(real))


def rollout_errors(predicted: Tensor, real: Tensor) -> np.ndarray:
    """Return the mean over starts of the Euclidean distance, after each number of timesteps."""
    return (predicted - real).norm(dim=-1).mean(0).numpy()


def measure(dataset: Dataset, setting: Setting, steps: int) -> tuple[Row, ErrorCurves, Trajectories]:
    """Train both models, let both foretell, and compare."""
    sampler, held_out = split(dataset, setting.observed, setting.model.context_length, steps)
    shape = SequenceShape(observation_shape=(setting.observed,), action_dim=1, discrete=False, max_timesteps=200)
    generator = torch.Generator().manual_seed(derive_seed(0, "rollouts"))
    model, single = TrajectoryTransformer(setting.model, shape, generator), SingleStep(shape, generator)
    seconds = [
        fit(model, sampler, setting.training),
        fit(single, sampler, replace(setting.training, learning_rate=SINGLE_RATE)),
    ]
    past, actions, real = held_out.past, held_out.actions, held_out.real
    predicted = {
        TRANSFORMER: foretell(model, past, actions),
        SINGLE: single.foretell(past, actions),
        ROUNDED: single.foretell(past, actions, model.discretizer),
    }
    errors = {name: rollout_errors(found, real) for name, found in predicted.items()}
    errors[CONSTANT] = rollout_errors(torch.zeros_like(real), real)
    ours, peer = (float(errors[name][min(AT, steps) - 1]) for name in (TRANSFORMER, SINGLE))
    row = Row(
        benchmark="rollouts", name=setting.title, unit=f"deviations after {min(AT, steps)} timesteps", ours=ours,
        peer=peer, peer_name=SINGLE, ratio=peer / ours, ratio_min=peer / ours, ratio_max=peer / ours,
        setting={**asdict(setting.model), "updates": setting.training.updates, "starts": len(real),
                 "batch_size": setting.training.batch_size, "timesteps": sampler.num_steps},
        bound=f"at most {MOST_OF_SINGLE:g} of the single-step model's", holds=ours <= MOST_OF_SINGLE * peer,
        extra={
            "errors": {name: {str(at): float(found[at - 1]) for at in SHOWN_AT if at <= steps}
                       for name, found in errors.items()},
            "parameters": [sum(p.numel() for p in network.parameters()) for network in (model, single)],
            "training_cpu_seconds": seconds,
        },
    )  # fmt: skip
    return row, ErrorCurves(title=setting.title, errors=errors), _first(sampler, setting, real, predicted)


def _first(sampler: WindowSampler, setting: Setting, real: Tensor, predicted: Mapping[str, Tensor]) -> Trajectories:
    """Return what happened after the first start, in the environment's units."""
    mean, deviation = (
        np.array(numbers) for numbers in (sampler.normalization.observation_mean, sampler.normalization.observation_std)
    )
    shown = {name: found[0].numpy() * deviation + mean for name, found in predicted.items() if name != ROUNDED}
    return Trajectories(
        title=setting.title, names=NAMES[: setting.observed], real=real[0].numpy() * deviation + mean, predicted=shown
    )


def rows(options: Options, path: Path | None = None, figures: Path | None = FIGURES) -> Iterator[Row]:
    """Yield, for each setting, the error after `AT` timesteps; then write the figures into the folder `figures`."""
    torch.set_num_threads(1)
    settings, steps, recorded = SETTINGS, STEPS, 110_000
    if options.quick:
        steps, recorded = 20, 4_000
        settings = tuple(
            replace(one, model=replace(one.model, bins=20), training=replace(one.training, updates=5, batch_size=8))
            for one in SETTINGS
        )
    with tempfile.TemporaryDirectory() as temporary:
        if path is None:
            dataset = collect_random("Pendulum-v1", recorded, 0, Path(temporary) / "random.hdf5")
        else:
            dataset = open_dataset(path)
        measured = []
        for setting in settings:
            measured.append(measure(dataset, setting, steps))
            yield measured[-1][0]
        folder = Path(temporary) if figures is None or (options.quick and figures == FIGURES) else figures
        starts = measured[0][0].setting["starts"]
        title = "How the error of a prediction grows with its length"
        draw_rollout_errors(folder / "rollout-errors", title, [found[1] for found in measured], at=AT, starts=starts)
        title = "What was foretold of one held-out episode, and what was recorded"
        draw_rollout_trajectories(folder / "rollout-trajectories", title, [found[2] for found in measured])


def main() -> None:
    """Print the rows of a dataset, and draw the figures."""
    from benchmarks.__main__ import show

    parser = argparse.ArgumentParser(prog="python -m benchmarks.rollouts", description=__doc__)
    parser.add_argument("dataset", type=Path, nargs="?", help="Pendulum-v1 data; without it, random ones are recorded")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of the figures (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="smallest sizes")
    arguments = parser.parse_args()
    for row in rows(Options(quick=arguments.quick), arguments.dataset, arguments.out):
        show(row)


if __name__ == "__main__":
    main()
