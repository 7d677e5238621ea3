"""A Decision Transformer on Pendulum: one call of `act`, and 200 episodes at once beside one at a time in a loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import gymnasium
import numpy as np
import torch

from benchmarks import peers
from benchmarks.making import REFERENCE, TORQUE, in_words, random_model
from benchmarks.measuring import Options, Row, alternate, installed, rate, seconds
from foretell.evaluation.conditioned import ConditionedPolicy
from foretell.evaluation.protocol import evaluate, evaluation_starts
from foretell.models.configs import DecisionTransformerConfig
from foretell.presets.league import MODEL
from foretell.sequences.normalization import Normalization

EPISODES = 200
REPETITIONS = 5
LOOP_EPISODES = 4
"""Episodes of the loop that are timed, and scaled to 200: each takes the same 200 steps."""
TARGET = -150.0
BOUND = 20.0
PEER_BOUND = 30.0
"""How many times faster than Hugging Face's model in a loop of its own."""
ACT_BOUND = 3.0
CALLS = 150
"""Timed once the context is full; the models have embeddings for 200 timesteps."""
START = np.array([[1.0, 0.0, 0.0]])
NORMALIZATION = Normalization(
    observation_mean=(0.0, 0.0, 0.0), observation_std=(1.0, 1.0, 1.0), return_scale=1000.0, action_range=TORQUE
)

Loop = Callable[[list[int]], list[float]]
"""Runs one episode from each start, one after another; returns what each earned."""


def rows(options: Options) -> Iterator[Row]:
    """Yield seconds for 200 episodes of the preset's model and of the reference model, beside two loops each.

    Where transformers is installed, also milliseconds of one `act` for one environment, beside Hugging Face's model.
    """
    cases = {"preset": MODEL} if options.quick else {"preset": MODEL, "reference": REFERENCE}
    for label, config in cases.items():
        policy = ConditionedPolicy(random_model(config), NORMALIZATION, TARGET)
        _same_returns(policy)
        timing = _Timing(config=config, policy=policy, quick=options.quick)
        yield timing.beside(
            lambda starts, policy=policy: _our_loop(policy, starts), name=f"{label} model, one at a time",
            peer_name="the same policy in a Gymnasium loop", peer_version=gymnasium.__version__,
            bound=BOUND if label == "preset" else None,  # a large model is bound by its arithmetic
        )  # fmt: skip
        if installed("transformers"):
            network = peers.hugging_face_model(config).eval()
            yield timing.beside(
                lambda starts, network=network, config=config: _hugging_face_loop(network, config, starts),
                name=f"{label} model, Hugging Face's", peer_name="DecisionTransformerModel in a Gymnasium loop",
                peer_version=installed("transformers"), bound=PEER_BOUND,
            )  # fmt: skip
            yield _act_row(label, config, policy, network, 20 if options.quick else CALLS)


@dataclass(frozen=True, kw_only=True)
class _Timing:
    config: DecisionTransformerConfig
    policy: ConditionedPolicy
    quick: bool

    def beside(
        self, loop: Loop, *, name: str, peer_name: str, peer_version: str | None, bound: float | None
    ) -> Row:  # fmt: skip
        """Time 200 episodes at once, and some of the loop's scaled to 200, in turn."""
        starts, timed = evaluation_starts(0, EPISODES), 1 if self.quick else LOOP_EPISODES
        loop(starts[:1])
        comparison = alternate(
            lambda: seconds(lambda: evaluate(self.policy, "Pendulum-v1", starts)),
            lambda: seconds(lambda: loop(starts[:timed])) * EPISODES / timed,
            1 if self.quick else REPETITIONS, higher_is_better=False,
        )  # fmt: skip
        fields = comparison.fields()
        return Row(
            benchmark="evaluation", name=name, unit=f"s for {EPISODES} episodes",
            setting={**in_words(self.config), "episodes": EPISODES, "threads": torch.get_num_threads(),
                     "peer_is": f"{timed} episodes timed, scaled to {EPISODES}"},
            peer_name=peer_name, peer_version=peer_version,
            bound=None if bound is None else f"ratio at least {bound:g}",
            holds=None if bound is None else bool(fields["ratio"] >= bound), **fields,
        )  # fmt: skip


def _our_loop(policy: ConditionedPolicy, starts: list[int]) -> list[float]:
    env, returns = gymnasium.make("Pendulum-v1"), []
    for start in starts:
        observation, _ = env.reset(seed=start)
        policy.reset(1)
        earned, ended = 0.0, False
        while not ended:
            observation, reward, terminated, truncated, _ = env.step(policy.act(observation[None])[0])
            policy.observe(np.array([reward]))
            earned, ended = earned + float(reward), terminated or truncated
        returns.append(earned)
    return returns


def _act_row(
    label: str, config: DecisionTransformerConfig, policy: ConditionedPolicy, network: torch.nn.Module, calls: int
) -> Row:  # fmt: skip
    """Time one call of each in one environment, its context full."""
    window = [np.zeros((config.context_length, size)) for size in (3, 1, 1)]

    def ours(_: int) -> None:
        policy.act(START)
        policy.observe(np.zeros(1))

    def our_rate() -> float:
        policy.reset(1)
        rate(ours, config.context_length)
        return rate(ours, calls)

    def peers_rate() -> float:
        return rate(lambda _: _hugging_face_action(network, *window, 0), calls)

    our_rate(), peers_rate()
    comparison = alternate(
        lambda: 1000 / our_rate(), lambda: 1000 / peers_rate(), REPETITIONS, higher_is_better=False
    )  # fmt: skip
    fields = comparison.fields()
    return Row(
        benchmark="evaluation", name=f"{label} model, one call of act", unit="ms",
        setting={**in_words(config), "environments": 1, "threads": torch.get_num_threads(), "calls": calls,
                 "peer_is": "the same window made into tensors, one forward, the last action as an array"},
        peer_name="DecisionTransformerModel", peer_version=installed("transformers"),
        bound=f"ratio at least {ACT_BOUND:g}", holds=bool(fields["ratio"] >= ACT_BOUND), **fields,
    )  # fmt: skip


@torch.inference_mode()
def _hugging_face_loop(
    model: torch.nn.Module, config: DecisionTransformerConfig, starts: list[int]
) -> list[float]:  # fmt: skip
    """Run the loop of Hugging Face's published example: the last K timesteps go through the model at each step."""
    env, returns = gymnasium.make("Pendulum-v1"), []
    for start in starts:
        observation, _ = env.reset(seed=start)
        states, actions, asked = np.zeros((200, 3)), np.zeros((200, 1)), np.zeros((200, 1))
        earned, timestep, ended = 0.0, 0, False
        while not ended:
            states[timestep], asked[timestep] = observation, (TARGET - earned) / 1000.0
            window = slice(max(0, timestep + 1 - config.context_length), timestep + 1)
            actions[timestep] = _hugging_face_action(
                model, states[window], actions[window], asked[window], window.start
            )  # fmt: skip
            observation, reward, terminated, truncated, _ = env.step(2 * actions[timestep])
            earned, ended, timestep = earned + float(reward), terminated or truncated, timestep + 1
        returns.append(earned)
    return returns


@torch.inference_mode()
def _hugging_face_action(
    model: torch.nn.Module, states: np.ndarray, actions: np.ndarray, asked: np.ndarray, start: int
) -> np.ndarray:  # fmt: skip
    _, predicted, _ = model(
        states=_batch_of_one(states), actions=_batch_of_one(actions), rewards=None,
        returns_to_go=_batch_of_one(asked), timesteps=torch.arange(start, start + len(states))[None],
        attention_mask=torch.ones(1, len(states), dtype=torch.long), return_dict=False,
    )  # fmt: skip
    return predicted[0, -1].numpy()


def _batch_of_one(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32))[None]


def _same_returns(policy: ConditionedPolicy) -> None:
    """Refuse to time two loops that do not do the same."""
    starts = evaluation_starts(0, 2)
    together, alone = evaluate(policy, "Pendulum-v1", starts).returns, _our_loop(policy, starts)
    if not np.allclose(together, alone, rtol=1e-4):
        raise AssertionError(f"returns {together} together and {alone} one at a time; expected them equal")
