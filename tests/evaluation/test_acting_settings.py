"""Settings of acting: what is refused, what `auto` is, and that each behaviour does what its name says."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
import torch

from conformance import checks
from foretell.core.errors import CheckpointError, UsageError
from foretell.evaluation.acting import acting_policy
from foretell.evaluation.chunked import ChunkingPolicy
from foretell.evaluation.conditioned import ConditionedPolicy
from foretell.evaluation.configs import ACTING, ChunkingConfig, PlanningConfig, acting_settings
from foretell.evaluation.planned import PlanningPolicy
from foretell.evaluation.planning import best_actions, likeliest
from foretell.evaluation.policies import ASKED, restore_policy
from foretell.models.registry import MODELS
from foretell.sequences.targets import Telling
from foretell.values.asking import Asking
from foretell.values.configs import IQLConfig
from foretell.values.functions import ValueFunctions
from reference.making import SHAPES, VECTOR, each, random_batch, scaled, small_config, small_model
from reference.planning import best_slowly, tiny
from reference.trajectory import logits_slowly, probabilities, trajectory_model

NOTHING = Asking(telling=Telling(condition="none", scale=10.0), target=0.0)
BRIEF = PlanningConfig(beam_width=4)


def value_functions(observation_dim=3, action_dim=2, normalization=None, seed=1):
    """Q-functions with large weights, and values that are 3 + 2 times what they say."""
    settings = IQLConfig(hidden_sizes=(8, 8))
    found = ValueFunctions(
        settings, normalization or scaled(action_dim), observation_dim, action_dim, torch.Generator().manual_seed(seed)
    ).requires_grad_(False)
    for parameter in found.q.parameters():
        parameter.mul_(4.0)
    found.offset.fill_(3.0)
    found.scale.fill_(2.0)
    return found


def planner(model, planning=BRIEF, condition="return", functions=None, normalization=None):
    return PlanningPolicy(model, normalization or scaled(), NOTHING, planning, condition, functions)


def newest(model, count=5, seed=0):
    """A whole window of every environment, and its symbols up to the newest observation."""
    batch = random_batch(model.shape, real=(4,) * count, seed=seed)
    return batch, model.symbols(batch)


# What there is, and what is refused.

OUT_OF_RANGE = {
    "behaviour": ("greedy", ""), "horizon": (0, -1), "beam_width": (0, -1), "expansion": (0, -1),
    "action_top_k": (0, -1), "observation_top_k": (0, -1), "discount": (0.0, 1.01, float("nan")),
    "action_percentile": (0.0, 1.5, float("nan")), "observation_percentile": (0.0, 1.5, float("nan")),
    "goal": (), "seed": (), "actions_taken": (0, -1),
}  # fmt: skip


@pytest.mark.parametrize("settings", ACTING.values())
def test_settings_out_of_range_are_refused(settings):
    for setting in fields(settings):
        values = OUT_OF_RANGE[setting.name]
        assert values or setting.name in ("goal", "seed"), setting.name
        for value in values:
            with pytest.raises(UsageError, match="expected"):
                settings(**{setting.name: value})
    with pytest.raises(TypeError):
        settings(3)


def test_networks_have_settings_of_their_own_or_none():
    for name in ("decision-transformer", "lstm", "mlp"):
        assert acting_settings(name, None) is None
    for name, settings in ACTING.items():
        assert type(acting_settings(name, None)) is settings
    assert acting_settings("trajectory-transformer", BRIEF) is BRIEF
    with pytest.raises(UsageError, match="acting is ChunkingConfig; trajectory-transformer takes PlanningConfig"):
        acting_settings("trajectory-transformer", ChunkingConfig())
    with pytest.raises(UsageError, match="acting is PlanningConfig; encoder-decoder takes ChunkingConfig"):
        acting_settings("encoder-decoder", PlanningConfig())
    with pytest.raises(UsageError, match="acting is PlanningConfig; mlp takes no such settings"):
        acting_settings("mlp", PlanningConfig())


@pytest.mark.parametrize("name", MODELS)
def test_a_network_acts_by_its_settings(name):
    policy = acting_policy(small_model(name), scaled(), NOTHING, acting_settings(name, None), "return")
    expected = {"trajectory-transformer": PlanningPolicy, "encoder-decoder": ChunkingPolicy}
    assert type(policy) is expected.get(name, ConditionedPolicy)


@pytest.mark.parametrize(("condition", "behaviour"), [("return", "return"), ("value", "value"), ("none", "imitation")])
def test_auto_is_what_the_run_was_told(condition, behaviour):
    functions = value_functions() if condition == "value" else None
    model = trajectory_model()
    assert planner(model, condition=condition, functions=functions).planning == replace(BRIEF, behaviour=behaviour)
    chosen = replace(BRIEF, behaviour="expectation")
    assert planner(model, chosen, condition, functions).planning == chosen


def test_a_horizon_longer_than_the_window_is_refused():
    model = trajectory_model()
    planner(model, replace(BRIEF, horizon=4))
    with pytest.raises(UsageError, match="horizon 5 is longer than the window of 4 timesteps"):
        planner(model, replace(BRIEF, horizon=5))


def test_a_value_that_nobody_learned_is_refused():
    for planning, condition in ((BRIEF, "value"), (replace(BRIEF, behaviour="value"), "return")):
        with pytest.raises(UsageError, match="the run has no value functions; train it with --condition value"):
            planner(trajectory_model(), planning, condition)


def test_goals_are_for_runs_with_goals_which_need_one():
    told = replace(BRIEF, goal=(0.0, 1.0, 2.0))
    with pytest.raises(UsageError, match="trained without goals; expected none"):
        planner(trajectory_model(), told)
    with pytest.raises(UsageError, match="trained with goals; expected an observation"):
        planner(trajectory_model(goals=True))
    with pytest.raises(UsageError, match="expected 3 numbers"):
        planner(trajectory_model(goals=True), replace(BRIEF, goal=(0.0, 1.0)))
    planner(trajectory_model(goals=True), told)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_goal_that_is_no_observation_is_refused(number):
    with pytest.raises(UsageError, match="expected"):
        planner(trajectory_model(goals=True), replace(BRIEF, goal=(0.0, number, 2.0)))


def test_a_planner_is_told_nothing():
    with pytest.raises(UsageError):
        planner(trajectory_model()).reset(2, -100.0)


# What the behaviours do.


def middle_action(model, batch):
    """Of each dimension the bin where the running sum of probabilities reaches a half, the others' likeliest known."""
    symbols = model.symbols(batch)
    rows = []
    for row in range(len(symbols)):
        tokens, found = symbols[row].flatten()[: -model.slots + model.observation_slots].tolist(), []
        for slot in range(model.observation_slots, model.observation_slots + model.action_slots):
            logits = logits_slowly(model, tokens)[-1]
            shares = probabilities(logits[: model.config.bins])
            middle = next(bin for bin in range(len(shares)) if shares[: bin + 1].sum() >= 0.5)
            found.append(float(model.discretizer.centers[slot][middle]))
            tokens.append(int(shares.argmax()))
        rows.append(torch.from_numpy(logits[: model.shape.action_dim]).float() if model.shape.discrete else found)
    return torch.stack(rows) if model.shape.discrete else torch.tensor(rows)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("behaviour", ["expectation", "median", "imitation", "return"])
@torch.inference_mode()
def test_behaviours_are_those_of_the_search(kind, behaviour):
    """The plan's beginning is the last K - h + 1 timesteps; what fills the newest action's place is not read."""
    model = trajectory_model(kind)
    batch, symbols = newest(model)
    policy = planner(model, replace(BRIEF, behaviour=behaviour, horizon=2, discount=0.7))
    found = policy._choose(batch)
    if behaviour == "expectation":
        expected = model(batch, last_only=True)[:, 0]
    elif behaviour == "median":
        expected = middle_action(model, batch)
    else:
        begun = symbols[:, -3:].flatten(1)[:, : 2 * model.slots + 3]
        if behaviour == "imitation":
            actions = likeliest(model, begun, model.slots + model.action_slots, 4)[:, : model.action_slots]
        else:
            actions = best_actions(model, begun, replace(BRIEF, horizon=2, discount=0.7), None, 10.0)
        numbers = model.discretizer.centers[3:5]
        expected = torch.eye(4)[actions[:, 0]] if kind == "discrete" else numbers[torch.arange(2), actions]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    assert float(found.std(0).max()) > 1e-2, "every window is answered alike"
    other = random_batch(model.shape, real=(4,) * 5, seed=9)
    swapped = each(batch, torch.clone)
    swapped.actions[:, -1], swapped.rewards[:, -1] = other.actions[:, -1], other.rewards[:, -1]
    swapped.returns_to_go[:] = other.returns_to_go
    torch.testing.assert_close(policy._choose(swapped), found, atol=1e-6, rtol=1e-6)


@torch.inference_mode()
def test_the_behaviours_differ():
    batch, _ = newest(model := trajectory_model(), count=30)
    functions = value_functions()
    found = {
        behaviour: planner(model, replace(BRIEF, behaviour=behaviour), functions=functions)._choose(batch)
        for behaviour in ("expectation", "median", "imitation", "return", "value")
    }
    for one, other in itertools.combinations(found, 2):
        assert float((found[one] - found[other]).abs().max()) > 1e-2, (one, other)


def check_value(kind):
    """One timestep ahead, all actions drawn: the largest smaller Q of the observation itself, not of its bin."""
    discrete = kind == "discrete"
    shape = replace(SHAPES[kind], action_dim=4 if discrete else 1)
    model = small_model("trajectory-transformer", shape, spread=0.1)
    normalization = replace(scaled(1), action_range=None) if discrete else scaled(1)
    functions = value_functions(3, shape.action_dim, normalization)
    planning = PlanningConfig(beam_width=600, expansion=1)
    policy = planner(model, planning, "value", functions, normalization)
    batch = random_batch(shape, real=(4,) * 40, seed=2)
    found = policy._choose(batch)
    actions = torch.eye(4) if discrete else model.discretizer.centers[3][:, None]
    best, middle = [], []
    for observation in (batch.observations[:, -1], model.numbers(model.symbols(batch)[:, -1, :3], 0)):
        pairs = [functions.q(observation, action.expand(40, -1)).amin(0) for action in actions]
        (middle if best else best).extend(torch.stack(pairs).argmax(0).tolist())
    torch.testing.assert_close(found, actions[best], atol=1e-6, rtol=0)
    assert best != middle, "observations and the middles of their bins have the same best actions"
    assert len(set(best)) > 1


@pytest.mark.parametrize("kind", SHAPES)
@torch.inference_mode()
def test_value_is_the_smaller_q_of_what_is_really_seen(kind):
    check_value(kind)


@torch.inference_mode()
def test_value_of_what_is_foreseen_is_in_reward_units():
    """Two timesteps ahead: reward plus 0.9 times 3 + 2 Q, by search of all plans; Q alone would choose others."""
    answers = []
    for seed in range(6):
        model = tiny(seed=seed)
        functions = value_functions(1, 1, seed=seed)
        planning = PlanningConfig(horizon=2, beam_width=600, expansion=1, discount=0.9)
        batch, symbols = newest(model, count=1, seed=seed)
        found = planner(model, planning, "value", functions, scaled(1))._choose(batch)

        def worth(observation, action, batch=batch, symbols=symbols, functions=functions, model=model):
            state = batch.observations[:, -1]
            if observation != int(symbols[0, -1, 0]):
                state = model.discretizer.centers[0, observation].reshape(1, 1)
            q = functions.q(state, model.discretizer.centers[1, list(action)].reshape(1, 1)).amin(0)
            return float(functions.offset + functions.scale * q)

        window = symbols[0, -3:].flatten()[: 2 * model.slots + 1].tolist()
        best, lead = best_slowly(model, window, planning, worth)
        assert lead > 1e-4
        assert found.item() == pytest.approx(float(model.discretizer.centers[1, best[0]]), abs=1e-6)
        answers.append(best)
    assert len(set(answers)) > 1


@torch.inference_mode()
def test_goals_are_told_in_environment_units():
    model = trajectory_model(goals=True)
    policies = [planner(model, replace(BRIEF, goal=goal)) for goal in ((1.0, 1.0, 1.0), (9.0, -3.0, 1.0))]
    assert policies[0]._goal.tolist() == [[0.0, 0.0, 0.0]]
    assert policies[1]._goal.tolist() == [[4.0, -2.0, 0.0]]
    batch, _ = newest(model, count=20)
    for behaviour in ("imitation", "expectation", "return"):
        chosen = [planner(model, replace(policy.planning, behaviour=behaviour))._choose(batch) for policy in policies]
        assert float((chosen[0] - chosen[1]).abs().max()) > 1e-2, behaviour


@pytest.mark.parametrize("behaviour", ["imitation", "expectation", "return", "value"])
def test_environments_are_planned_as_if_alone(behaviour):
    """Also past the hundred that the model sees at once, each to the bit that its action is chosen by."""
    model, functions = trajectory_model(), value_functions()
    policy = planner(model, replace(BRIEF, behaviour=behaviour, horizon=2), functions=functions)
    rng = np.random.default_rng(0)
    observations, rewards = rng.normal(size=(3, 104, 3)).astype(np.float32), rng.normal(size=(3, 104))

    def played(envs):
        decided = checks.watch(policy)
        policy.reset(len(envs))
        for observation, reward in zip(observations, rewards):
            policy.act(observation[envs])
            policy.observe(reward[envs])
        del policy._decide
        return np.stack(decided)

    together = played(list(range(104)))
    for env in (0, 99, 100, 103):
        np.testing.assert_allclose(played([env])[:, 0], together[:, env], atol=1e-6)
    assert np.ptp(together, axis=(0, 1)).max() > 1e-2


# From what a run folder holds.


def _saved(name, **changes):
    model = small_model(name)
    acting = acting_settings(name, None)
    config = {
        "kind": "sequence", "algorithm": name, "condition": "return", "model": asdict(small_config(name)),
        "shape": asdict(VECTOR), "normalization": scaled().to_json(), "acting": asdict(acting) if acting else None,
        **changes,
    }  # fmt: skip
    asking = {ASKED + key: value for key, value in NOTHING.tensors().items()}
    return config, {**model.state_dict(), **asking}


def test_changes_are_changes_of_what_the_run_was_trained_with():
    stored = asdict(replace(BRIEF, horizon=3, discount=0.5)) | {"goal": []}  # as JSON has it
    policy = restore_policy(*_saved("trajectory-transformer", acting=stored), acting={"discount": 0.75})
    expected = replace(BRIEF, behaviour="return", horizon=3, discount=0.75)
    assert isinstance(policy, PlanningPolicy)
    assert policy.planning == expected
    policy = restore_policy(*_saved("encoder-decoder"), acting={"actions_taken": 2})
    assert isinstance(policy, ChunkingPolicy)
    assert policy.actions_taken == 2


@pytest.mark.parametrize(("name", "changes", "words"), [
    ("trajectory-transformer", {"actions_taken": 2}, "actions_taken: no settings of how a run of trajectory"),
    ("encoder-decoder", {"horizon": 2}, "horizon: no settings of how a run of encoder-decoder acts; expected actions_"),
    ("mlp", {"horizon": 2}, "horizon: no settings of how a run of mlp acts; expected none"),
    ("trajectory-transformer", {"horizon": 0}, "expected at least 1"),
    ("trajectory-transformer", {"horizon": 5}, "longer than the window"),
    ("trajectory-transformer", {"behaviour": "value"}, "no value functions"),
    ("encoder-decoder", {"actions_taken": 3}, "the model writes 2 actions"),
])  # fmt: skip
def test_changes_that_a_run_cannot_follow_are_refused(name, changes, words):
    with pytest.raises(UsageError, match=words):
        restore_policy(*_saved(name), acting=changes)


@pytest.mark.parametrize(("kind", "there"), [("sac", "none"), ("values", "greedy")])
def test_agents_have_no_such_settings_of_acting(kind, there):
    with pytest.raises(UsageError, match=f"horizon: no settings .*; expected {there}"):
        restore_policy({"kind": kind, "algorithm": kind}, {}, acting={"horizon": 2})


@pytest.mark.parametrize("damage", [None, {"horizont": 3}, "missing"])
def test_settings_of_acting_that_are_damaged_are_refused(damage):
    config, tensors = _saved("trajectory-transformer", acting=damage)
    if damage == "missing":
        del config["acting"]
    with pytest.raises(CheckpointError, match="acting"):
        restore_policy(config, tensors)


@pytest.mark.parametrize(
    ("behaviour", "horizon", "first"), [("median", 1, 0), ("imitation", 1, 0), ("imitation", 3, 2)]
)
def test_a_window_is_told_of_its_own_first_timestep(behaviour, horizon, first, monkeypatch):
    """A plan over several timesteps reads fewer that are past, and what stands in front is of these."""
    model = trajectory_model(told=True)
    policy = planner(model, PlanningConfig(beam_width=2, behaviour=behaviour, horizon=horizon), condition="return")
    batch, _ = newest(model)
    told = []
    model.embed_told.register_forward_hook(lambda module, given, found: told.append(given[0]))
    policy._choose(batch)
    expected = torch.cat(
        [batch.returns_to_go[:, first], batch.timesteps[:, first, None] / model.shape.max_timesteps], dim=1
    )  # fmt: skip
    assert len(told) == 1
    torch.testing.assert_close(told[0], expected)


def test_a_goal_outside_the_data_is_said():
    """Of which only the outermost symbol is left."""
    model = trajectory_model(goals=True)
    edges = model.discretizer.edges[: model.observation_slots]
    inside = scaled().observation_std[0] * edges[:, -1] + scaled().observation_mean[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        planner(model, replace(BRIEF, goal=tuple(inside.tolist())))
    with pytest.warns(UserWarning, match=r"goal .*component 1 lies outside those of the data"):
        planner(model, replace(BRIEF, goal=(float(inside[0]), 1e6, float(inside[2]))))
