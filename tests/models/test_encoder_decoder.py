"""The encoder-decoder: against one history at a time without padding or cache, and acting in chunks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from conformance import checks
from conformance.checks import notices
from foretell.core.errors import UsageError
from foretell.evaluation.chunked import ChunkingPolicy
from foretell.evaluation.conditioned import ConditionedPolicy
from foretell.evaluation.configs import ChunkingConfig
from foretell.models.configs import EncoderDecoderConfig, window_length
from foretell.models.encoder_decoder import EncoderDecoder
from foretell.models.transformer.stacks import Decoder, Encoder, sinusoidal_positions
from foretell.sequences.targets import Telling
from foretell.values.asking import Asking
from reference.making import SHAPES, each, random_batch, scaled, small_model

kinds = pytest.mark.parametrize("kind", SHAPES)
ASKING = Asking(telling=Telling(condition="return", scale=10.0), target=3.0)


def _inputs(model, actions):
    """Actions as they are read: as they are, or a 1 in the place of the choice."""
    return torch.eye(model.shape.action_dim)[actions] if model.shape.discrete else actions


def history(model, batch, row, t):
    """Tokens of the last K real timesteps up to t, and a mask that hides none of them."""
    first = max(t - model.config.context_length + 1, int(batch.mask[row].int().argmax()))
    positions, tokens = sinusoidal_positions(40, model.config.width), []
    for step in range(first, t + 1):
        place = positions[batch.timesteps[row, step]]
        tokens.append(model.embed_return(batch.returns_to_go[row, step]) + place)
        tokens.append(model.embed_observation(batch.observations[row, step]) + place)
        if step < t:
            tokens.append(model.embed_action(_inputs(model, batch.actions[row, step])) + place)
    return torch.stack(tokens)[None], torch.ones(1, len(tokens), dtype=torch.bool)


def answer(model, batch, row, t, written):
    """What comes after the actions `written` at timestep t: encoded and decoded anew."""
    tokens, seen = history(model, batch, row, t)
    memory = model.encoder(tokens, seen)
    inputs = torch.stack([model.start, *[model.embed_written(_inputs(model, action)) for action in written]])
    inputs = inputs + sinusoidal_positions(len(inputs), model.config.width)
    return model.action_head(model.decoder(inputs[None], memory, seen))[0, -1]


def plan(model, batch, row, t):
    """All H actions after timestep t, each written behind those before."""
    found, written = [], []
    for _ in range(model.config.horizon):
        found.append(answer(model, batch, row, t, written))
        written.append(found[-1].argmax() if model.shape.discrete else found[-1])
    return torch.stack(found)


def loss_slowly(model, batch):
    """Mean of the errors of the next H actions of every real timestep, as many as the window has."""
    errors, length = [], batch.mask.shape[1]
    for row, t in batch.mask.nonzero().tolist():
        for h in range(min(model.config.horizon, length - t)):
            found = answer(model, batch, row, t, list(batch.actions[row, t : t + h]))
            wanted = batch.actions[row, t + h]
            if model.shape.discrete:
                errors.append(-float(found.log_softmax(-1)[wanted]))
            else:
                errors.append(float((found - wanted).square().mean()))
    return sum(errors) / len(errors)


@torch.no_grad()
def check_loss(kind="continuous", horizon=3):
    """Windows of K + H - 1 timesteps, two of them padded, one with a single timestep."""
    model = small_model("encoder-decoder", SHAPES[kind], context_length=3, horizon=horizon)
    batch = random_batch(SHAPES[kind], real=(5, 3, 1), time=5, padding_seed=2)
    assert float(model.loss(batch)) == pytest.approx(loss_slowly(model, batch), rel=1e-5)


@kinds
@pytest.mark.parametrize("horizon", [1, 3, 7])
def test_the_loss_is_that_of_one_history_at_a_time(kind, horizon):
    check_loss(kind, horizon)


def test_faults_of_the_loss_are_noticed(monkeypatch):
    read, decode, past = Encoder.forward, Decoder.forward, EncoderDecoder._decoder_inputs

    def padding_read(self, tokens, mask, *rest):
        return read(self, tokens, torch.ones_like(mask), *rest)

    def memory_of_padding(self, tokens, memory, memory_mask, *rest, **options):
        return decode(self, tokens, memory, torch.ones_like(memory_mask), *rest, **options)

    def own_action_read(self, memory, actions, generator):
        return past(self, memory, None if actions is None else actions.roll(-1, 1), generator)

    for owner, name, fault in (
        (Encoder, "forward", padding_read), (Decoder, "forward", memory_of_padding),
        (EncoderDecoder, "_decoder_inputs", own_action_read),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fault)
            notices(check_loss)


@kinds
@torch.no_grad()
def test_every_timestep_is_answered_as_if_the_window_ended_there(kind):
    """The encoder looks both ways, but never past the timestep, nor further back than K."""
    model = small_model("encoder-decoder", SHAPES[kind], context_length=3)
    batch = random_batch(SHAPES[kind], real=(6, 4), time=6, padding_seed=2)
    found = model(batch)
    for t in range(6):
        cut = each(batch, lambda values, t=t: values[:, max(0, t - 2) : t + 1])
        for row in (0, 1):
            if batch.mask[row, t]:
                torch.testing.assert_close(model(cut)[row, -1], found[row, t], atol=1e-5, rtol=1e-5)
                torch.testing.assert_close(answer(model, batch, row, t, []), found[row, t], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(model(cut, last_only=True)[:, 0], model(cut)[:, -1], atol=1e-6, rtol=1e-6)
    moved = replace(batch, observations=batch.observations.clone())
    moved.observations[0, 1] += 1.0
    distance = (model(moved) - found)[0].abs().amax(-1)
    assert float(distance[[0, 4, 5]].max()) < 1e-6
    assert float(distance[1:4].min()) > 1e-3


@torch.no_grad()
def check_writing(kind="continuous"):
    """What is written with keys and values kept is what is written from scratch, step by step."""
    model = small_model("encoder-decoder", SHAPES[kind], context_length=4, horizon=5)
    batch = random_batch(SHAPES[kind], real=(6, 4, 1), time=6, padding_seed=2)
    found = model.write(batch)
    assert found.shape == (3, 5, model.shape.action_dim)
    torch.testing.assert_close(found[:, 0], model(batch)[:, -1], atol=1e-5, rtol=1e-5)
    for row in range(3):
        torch.testing.assert_close(found[row], plan(model, batch, row, 5), atol=1e-5, rtol=1e-5)
    assert float((found[:, 1:] - found[:, :-1]).abs().amax((1, 2)).min()) > 1e-3


@kinds
def test_writing_is_decoding_step_by_step(kind):
    check_writing(kind)


def test_faults_of_writing_are_noticed(monkeypatch):
    plain, decode = sinusoidal_positions, Decoder.forward

    def last_token_alone(self, tokens, memory, memory_mask, *rest, cache=None, **options):
        return decode(self, tokens, memory, memory_mask, *rest, cache=None, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "forward", last_token_alone)
        notices(check_writing)

    def standing(length, width):
        return plain(1, width).expand(length, -1)

    monkeypatch.setattr("foretell.models.encoder_decoder.sinusoidal_positions", standing)
    notices(check_writing)


def test_positions_reach_to_the_longest_episode_and_horizon():
    for longest, horizon in ((3, 8), (30, 2)):
        shape = replace(SHAPES["continuous"], max_timesteps=longest)
        model = small_model("encoder-decoder", shape, horizon=horizon)
        assert model.positions.shape == (max(longest, horizon), 16)
        assert "positions" not in model.state_dict()
    assert window_length(EncoderDecoderConfig(context_length=10, horizon=4)) == 13


# Acting in chunks.


def _noted(model):
    """Let the model keep what it is shown and what it writes; return both lists."""
    shown, written, plain = [], [], model.write

    def write(batch):
        shown.append(each(batch, torch.clone))
        written.append(plain(batch))
        return written[-1]

    model.write = write
    return shown, written


def _script(steps, envs=1):
    rng = np.random.default_rng(5)
    return rng.normal(size=(steps, envs, 3)).astype(np.float32), rng.normal(size=(steps, envs))


def _play(policy, observations, rewards):
    policy.reset(observations.shape[1])
    actions = []
    for observation, reward in zip(observations, rewards):
        actions.append(policy.act(observation))
        policy.observe(reward)
    return np.stack(actions)


@kinds
def test_m_of_h_actions_are_taken_before_the_model_is_asked_again(kind):
    """m = 3 of H = 4: asked at timesteps 0, 3 and 6 about all that happened, and the actions come in order."""
    model = small_model("encoder-decoder", SHAPES[kind], context_length=4, horizon=4)
    normalization = replace(scaled(), action_range=None) if kind == "discrete" else scaled()
    policy = ChunkingPolicy(model, normalization, ASKING, ChunkingConfig(actions_taken=3))
    shown, written = _noted(model)
    observations, rewards = _script(8, envs=2)
    actions = _play(policy, observations, rewards)
    assert [batch.timesteps[0].tolist() for batch in shown] == [[0], [0, 1, 2, 3], [3, 4, 5, 6]]
    for t in range(8):
        found = written[t // 3][:, t % 3].numpy()
        expected = found.argmax(-1) if kind == "discrete" else normalization.action_range.to_environment(found)
        np.testing.assert_array_equal(actions[t], expected)
    taken = actions[3:6] if kind == "discrete" else actions[3:6] / 2
    np.testing.assert_allclose(shown[2].actions[:, :3].transpose(0, 1), taken, atol=1e-6)
    np.testing.assert_allclose(shown[2].observations.transpose(0, 1), (observations[3:7] - 1) / 2, atol=1e-6)
    spent = 3.0 - np.cumsum(rewards, 0)
    np.testing.assert_allclose(shown[2].returns_to_go[:, :, 0].T, spent[2:6] / 10, atol=1e-6)


def test_every_episode_begins_with_a_question():
    model = small_model("encoder-decoder", context_length=4, horizon=4)
    policy = ChunkingPolicy(model, scaled(), ASKING, ChunkingConfig(actions_taken=4))
    shown, _ = _noted(model)
    first = _play(policy, *_script(6))
    assert len(shown) == 2
    np.testing.assert_array_equal(_play(policy, *_script(6)), first)
    assert len(shown) == 4


@kinds
def test_one_of_h_is_acting_as_all_networks_do(kind):
    model = small_model("encoder-decoder", SHAPES[kind], context_length=4, horizon=4)
    normalization = replace(scaled(), action_range=None) if kind == "discrete" else scaled()
    shown, _ = _noted(model)
    chunking = ChunkingPolicy(model, normalization, ASKING, ChunkingConfig())
    decided = checks.watch(chunking)
    plainly = ConditionedPolicy(model, normalization, ASKING)
    expected = checks.watch(plainly)
    _play(chunking, *_script(7, envs=3))
    _play(plainly, *_script(7, envs=3))
    np.testing.assert_array_equal(np.stack(decided), np.stack(expected))
    assert not shown, "one action is needed, and H were written"
    assert np.ptp(np.stack(decided), axis=0).max() > 1e-3


def test_more_environments_than_the_model_sees_at_once():
    model = small_model("encoder-decoder", context_length=2, horizon=3)
    policy = ChunkingPolicy(model, scaled(), ASKING, ChunkingConfig(actions_taken=3))
    observations, rewards = _script(4, envs=130)
    together = _play(policy, observations, rewards)
    for env in (0, 99, 100, 129):
        alone = _play(policy, observations[:, [env]], rewards[:, [env]])
        np.testing.assert_allclose(alone[:, 0], together[:, env], atol=1e-5)


def test_more_actions_than_are_written_are_refused():
    model = small_model("encoder-decoder", horizon=2)
    ChunkingPolicy(model, scaled(), ASKING, ChunkingConfig(actions_taken=2))
    with pytest.raises(UsageError, match="actions_taken is 3; the model writes 2 actions at once"):
        ChunkingPolicy(model, scaled(), ASKING, ChunkingConfig(actions_taken=3))
    with pytest.raises(UsageError, match="expected at least 1"):
        ChunkingConfig(actions_taken=0)


@torch.no_grad()
def test_what_is_written_is_read_as_it_will_be_taken():
    """A linear head may write more than 1; the next action is written after 1."""
    model = small_model("encoder-decoder", horizon=2, action_head="linear")
    for parameter in model.action_head.parameters():
        parameter.fill_(5.0)
    read = []
    model.embed_written.register_forward_hook(lambda module, given, found: read.append(given[0]))
    assert float(model.write(random_batch(model.shape)).abs().max()) > 1
    assert len(read) == 1
    assert float(read[0].abs().max()) <= 1
