"""What every registered model owes its users, beyond the pitfalls: it learns, repeats itself, and continues."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, asdict, fields, replace

import numpy as np
import pytest
import torch

from conformance import checks
from foretell import facade
from foretell.core.errors import ForetellError
from foretell.evaluation.conditioned import ConditionedPolicy
from foretell.evaluation.configs import PlanningConfig
from foretell.models.configs import SequenceShape
from foretell.models.layers import ActionHead
from foretell.models.registry import MODELS, build_model
from foretell.training.checkpoints import load_tensors
from foretell.training.configs import TrainingConfig
from foretell.training.run_folder import read_events
from reference.making import CHOICES, SHAPES, VECTOR, random_batch, scaled, small_config, small_model

pytestmark = pytest.mark.parametrize("name", MODELS)
kinds = pytest.mark.parametrize("kind", SHAPES)


HEADLESS = {"trajectory-transformer"}
"""Models without an `action_head`: what they answer are means of numbers that lie in the range."""
BRIEF = {"trajectory-transformer": PlanningConfig(beam_width=2)}
"""Settings of acting that take little time, where the usual ones take much."""


@kinds
def test_overfits_one_batch(name, kind):
    """The learning rate rises over the first 50 updates, as in every run: without, post-norm layers do not settle."""
    shape = SHAPES[kind]
    model = build_model(name, asdict(small_config(name)), shape, torch.Generator().manual_seed(0))
    batch = random_batch(shape, real=(4, 4, 2, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    first = float(model.loss(batch).detach())
    for update in range(200):
        optimizer.param_groups[0]["lr"] = 1e-2 * min(1, (update + 1) / 50)
        optimizer.zero_grad()
        loss = model.loss(batch)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.01 * first


@kinds
def test_every_parameter_receives_a_gradient(name, kind):
    model = small_model(name, SHAPES[kind])
    model.loss(random_batch(SHAPES[kind])).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert float(parameter.grad.abs().max()) > 0, parameter_name


def test_weights_are_a_function_of_the_seed(name):
    config = asdict(small_config(name))
    first, again, other = (
        build_model(name, config, VECTOR, torch.Generator().manual_seed(seed)).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_the_global_generators_are_neither_read_nor_moved(name):
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002  the global state is what is looked at
        model = small_model(name, dropout=0.1)
        before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        loss = model.loss(random_batch(), torch.Generator().manual_seed(0))
        loss.backward()
        assert torch.equal(torch.get_rng_state(), before[0])
        np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
        found.append(float(loss.detach()))
    assert found[0] == found[1]


@pytest.mark.parametrize("fixture", ["pendulum_random", "cartpole_random"])
def test_training_is_deterministic_under_a_seed(name, fixture, tmp_path, request):
    data = request.getfixturevalue(fixture)
    training = TrainingConfig(updates=5, batch_size=4, log_every=1)
    runs = [
        facade.train(data, tmp_path / label, algorithm=name, model=small_config(name, dropout=0.1), training=training,
                     seed=seed)
        for label, seed in (("one", 3), ("same", 3), ("other", 4))
    ]  # fmt: skip
    one, same, other = (load_tensors(run / "model.safetensors") for run in runs)
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)
    assert _timeless(runs[0]) == _timeless(runs[1]) != _timeless(runs[2])


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    ("optimizer", "killed_after"), [("adamw", 3), ("adamw", 5), ("adamw", 7), ("adamw", 11), ("muon", 7)]
)
def test_resumes_bit_for_bit(name, optimizer, killed_after, pendulum_random, tmp_path):
    training = TrainingConfig(
        updates=12, batch_size=4, log_every=2, checkpoint_every=4, evaluate_every=6, warmup_updates=3,
        optimizer=optimizer,
    )  # fmt: skip

    def run(folder, progress):
        return facade.train(
            pendulum_random, folder, algorithm=name, model=small_config(name, dropout=0.1), training=training,
            acting=BRIEF.get(name), validation_episodes=2, progress=progress,
        )  # fmt: skip

    def kill(done, total, **_):
        if done == killed_after:
            raise Killed

    straight = run(tmp_path / "straight", lambda *_, **__: None)
    with pytest.raises(Killed):
        run(tmp_path / "killed", kill)
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    updates = []
    resumed = run(tmp_path / "killed", lambda done, total, **_: updates.append(done))
    assert updates[0] == killed_after // 4 * 4 + 1
    one, other = (load_tensors(folder / "model.safetensors") for folder in (straight, resumed))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert _timeless(straight) == _timeless(resumed)
    assert [event["update"] for event in _timeless(straight)] == [2, 4, 6, 6, 8, 10, 12, 12]


@kinds
def test_batched_acting_equals_one_at_a_time(name, kind):
    shape, steps = SHAPES[kind], 7
    model = small_model(name, shape)
    normalization = replace(scaled(), action_range=None) if shape.discrete else scaled()
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(steps, 5, 3)).astype(np.float32)
    rewards, targets = rng.normal(size=(steps, 5)), rng.normal(size=5)
    for way, policy in checks.policies(model, normalization).items():
        together = _decisions(policy, observations, rewards, targets)
        alone = [
            _decisions(checks.policies(model, normalization, float(targets[i]))[way], observations[:, [i]],
                       rewards[:, [i]], None)[:, 0]
            for i in range(5)
        ]  # fmt: skip
        np.testing.assert_allclose(together, np.stack(alone, axis=1), atol=1e-5, err_msg=way)
        assert np.ptp(together, axis=(0, 1)).max() > 1e-2, "nothing has an effect"


@kinds
def test_a_policy_forgets_earlier_episodes(name, kind):
    shape = SHAPES[kind]
    normalization = replace(scaled(), action_range=None) if shape.discrete else scaled()
    checks.check_acting_forgets(small_model(name, shape), normalization)


def test_a_policy_that_remembers_is_noticed(name, monkeypatch):
    if small_config(name).context_length == 1:
        return  # it has nothing to remember
    plain = ConditionedPolicy._batch

    def whole_window(self, envs):
        timestep, self._timestep = self._timestep, max(self._timestep, self.model.config.context_length - 1)
        batch, self._timestep = plain(self, envs), timestep
        return batch

    monkeypatch.setattr(ConditionedPolicy, "_batch", whole_window)
    checks.notices(checks.check_acting_forgets, small_model(name), scaled())


def test_images_are_taken_whichever_way_their_channels_lie(name):
    shape = SequenceShape(observation_shape=(40, 60, 3), action_dim=2, discrete=True, max_timesteps=5)
    turned = SequenceShape(observation_shape=(3, 40, 60), action_dim=2, discrete=True, max_timesteps=5)
    if not MODELS[name].reads_images:
        for found in (shape, turned):
            with pytest.raises(ForetellError, match="expected a vector"):
                small_model(name, found)
        return
    batch = random_batch(shape, real=(3, 1), time=3)
    other = type(batch)(**{**vars(batch), "observations": batch.observations.permute(0, 1, 4, 2, 3).contiguous()})
    outputs = [
        small_model(name, found, spread=0.05)(content).detach() for found, content in ((shape, batch), (turned, other))
    ]
    assert outputs[0].shape == (2, 3, 2)
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "observation_shape", [(), (4, 4), (35, 60, 3), (60, 35, 1), (84, 84, 84), (2, 40, 40, 3)], ids=str
)
def test_observations_of_other_shapes_are_refused(name, observation_shape):
    shape = SequenceShape(observation_shape=observation_shape, action_dim=1, discrete=False, max_timesteps=5)
    with pytest.raises(ForetellError, match="expected"):
        small_model(name, shape)


OUT_OF_RANGE = {
    "context_length": (0, -1), "width": (0, -1), "layers": (0, -1), "heads": (0, -1, 3),  # of width 128
    "dropout": (1.0, -0.1, float("nan")), "activation": ("tanh", ""), "action_head": ("relu", ""),
    "action_loss": ("cubed", ""), "timestep_embedding": ("rotary", ""),
    "bins": (0, -1), "binning": ("even", ""), "horizon": (0, -1), "feedforward_width": (0, -1),
    "action_weight": (-0.1, float("nan"), float("inf")), "reward_weight": (-0.1, float("nan"), float("inf")),
    "return_weight": (-0.1, float("nan"), float("inf")), "smoothing": (-0.1, float("nan"), float("inf")),
    "table_smoothing": (-0.1, float("nan"), float("inf")),
    "discount": (0.0, -0.5, 1.01, float("nan")), "goals": (), "told": (),
}  # fmt: skip


def test_settings_out_of_range_are_refused(name):
    for setting in fields(MODELS[name].config):  # a new setting has to say here what is out of its range
        values = OUT_OF_RANGE[setting.name]
        assert values or isinstance(setting.default, bool), f"nothing is out of the range of {setting.name}"
        for value in values:
            with pytest.raises(ForetellError, match=r"expected|choose"):
                MODELS[name].config(**{setting.name: value})


def test_settings_cannot_be_changed_or_given_by_position(name):
    config = MODELS[name].config()
    with pytest.raises(FrozenInstanceError):
        config.width = 3
    with pytest.raises(TypeError):
        MODELS[name].config(20)


def test_the_loss_drops_units_by_its_generator_alone(name):
    model, batch = small_model(name, dropout=0.5), random_batch()

    def loss(seed=None):
        return float(model.loss(batch, None if seed is None else torch.Generator().manual_seed(seed)).detach())

    assert loss(0) == loss(0) != loss(1)
    assert loss() == loss() not in (loss(0), loss(1))


def test_an_unbounded_head_leaves_the_range(name):
    batch, generator = random_batch(VECTOR), torch.Generator().manual_seed(0)
    bounded = small_model(name, VECTOR, spread=1.0)
    if name in HEADLESS:
        assert "action_head" not in {setting.name for setting in fields(MODELS[name].config)}
        assert not any(isinstance(part, ActionHead) for part in bounded.modules())
        assert float(bounded(batch).detach().abs().max()) <= 1.0
        return
    config = {**asdict(small_config(name)), "action_head": "linear"}
    unbounded = build_model(name, config, VECTOR, generator)
    unbounded.load_state_dict(bounded.state_dict())
    predicted = unbounded(batch).detach()
    assert float(predicted.abs().max()) > 1.0
    torch.testing.assert_close(torch.tanh(predicted), bounded(batch).detach())


def test_discrete_and_continuous_differ_in_their_output(name):
    assert small_model(name, CHOICES)(random_batch(CHOICES)).shape == (4, 4, 4)
    continuous = small_model(name, VECTOR, spread=3.0)(random_batch(VECTOR))
    assert continuous.shape == (4, 4, 2)
    assert float(continuous.detach().abs().max()) <= 1.0


def _decisions(policy, observations, rewards, targets):
    decided = checks.watch(policy)
    policy.reset(observations.shape[1], targets)
    for observation, reward in zip(observations, rewards):
        policy.act(observation)
        policy.observe(reward)
    return np.stack(decided)


def _timeless(run):
    events = [{key: value for key, value in event.items() if key != "wall_seconds"} for event in read_events(run)]
    return json.loads(json.dumps(events))
