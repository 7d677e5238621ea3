"""`foretell inspect RUN`: the card of a run, and `--attention`, the figure of one window of a real episode."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from cli_helpers import contents

from foretell import facade
from foretell.datasets.d4rl_writer import write_dataset
from foretell.datasets.registry import open_dataset
from foretell.evaluation.configs import ChunkingConfig, PlanningConfig
from foretell.evaluation.protocol import validation_starts
from foretell.facade.attention import acted_episode, recorded_episode, window
from foretell.facade.run_card import run_card
from foretell.training.configs import TrainingConfig
from foretell.training.run_folder import load_run
from reference.making import small_config

TRAINING = TrainingConfig(updates=3, batch_size=4, warmup_updates=1, log_every=1)
TOLD = {
    "decision-transformer": {"condition": "return", "target": -1_000.0},
    "trajectory-transformer": {"condition": "return"},
    "encoder-decoder": {"condition": "none"},
}
ACTING = {"trajectory-transformer": PlanningConfig(beam_width=2), "encoder-decoder": ChunkingConfig(actions_taken=2)}
EVALUATED = "decision-transformer"
NAMES = ("decision-transformer", "trajectory-transformer", "encoder-decoder")


@pytest.fixture(scope="session")
def runs(pendulum_random, tmp_path_factory):
    """A run folder of each network that has attention, of three updates."""
    folder = tmp_path_factory.mktemp("attentive")
    for name in NAMES:
        config = small_config(name, context_length=3, width=8, layers=1, bins=10, horizon=4)
        training = replace(TRAINING, evaluate_every=3 if name == EVALUATED else 0)
        facade.train(
            pendulum_random, folder / name, algorithm=name, model=config, training=training,
            acting=ACTING.get(name), validation_episodes=2, **TOLD[name],
        )  # fmt: skip
    return folder


SHAPES = {
    "decision-transformer": {"self-attention": [1, 2, 8, 8]},
    "trajectory-transformer": {"self-attention": [1, 2, 18, 18]},
    "encoder-decoder": {
        "encoder, on itself": [1, 2, 8, 8], "decoder, on itself": [1, 2, 4, 4],
        "decoder, on what was encoded": [1, 2, 4, 8],
    },
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_figure_of_a_run(foretell, runs, tmp_path, name):
    before = contents(runs / name)
    answer = foretell("inspect", runs / name, "--attention", "--out", tmp_path / "seen.png", "--json")
    assert (answer.code, answer.err) == (0, "")
    found = json.loads(answer.out)
    assert {kind["name"]: kind["shape"] for kind in found["maps"]} == SHAPES[name]
    assert found["timestep"] == 100
    assert found["episode"]["of"] == "Pendulum-v1"
    assert found["episode"]["length"] == 200
    last = {"decision-transformer": "s 100", "trajectory-transformer": "R 100", "encoder-decoder": "s 100"}[name]
    assert found["maps"][0]["keys"][-1] == last
    assert found["figure"] == str(tmp_path / "seen.png")
    assert (tmp_path / "seen.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "seen.svg").read_bytes().startswith(b"<?xml")
    assert contents(runs / name) == before


def test_the_figure_lies_in_the_run_folder_unless_told_otherwise(foretell, run_copy):
    answer = foretell("inspect", run_copy, "--attention", "--timestep", 1)
    assert answer.code == 0, answer.err
    assert answer.out.startswith(f"{run_copy / 'attention.png'}: self-attention 2 x 2 x 5 x 5 ")
    assert "timestep 1 of an episode of 200 in Pendulum-v1" in answer.out
    assert (run_copy / "attention.png").exists()
    assert foretell("evaluate", run_copy, "--episodes", 1).code == 0  # and the run is still one


@pytest.mark.parametrize("timestep", [0, 1, 5])
def test_the_window_is_what_the_policy_saw_when_it_acted(runs, timestep):
    policy = facade.load_policy(runs / "decision-transformer")
    config, _ = load_run(runs / "decision-transformer")
    seen = []
    handle = policy.model.register_forward_pre_hook(lambda _, args: seen.append(deepcopy(args[0])))
    episode = acted_episode(policy, "Pendulum-v1", validation_starts(0, 1)[0])
    handle.remove()
    ours, acted = window(policy, config, episode, timestep), seen[timestep]
    for name in ("observations", "returns_to_go", "timesteps", "mask"):
        assert torch.allclose(getattr(ours, name), getattr(acted, name), atol=1e-4), name
    assert torch.allclose(ours.actions[:, :-1], acted.actions[:, :-1], atol=1e-6)
    assert float(acted.actions[0, -1, 0]) == 0.0  # not taken yet; in ours it is
    taken = policy.normalization.actions(episode.actions[timestep])
    assert float(ours.actions[0, -1, 0]) == pytest.approx(float(taken[0]), abs=1e-6)


def test_a_planner_is_told_what_it_foretells(runs, pendulum_random):
    policy = facade.load_policy(runs / "trajectory-transformer")
    config, _ = load_run(runs / "trajectory-transformer")
    episode = recorded_episode(policy, pendulum_random, None)
    found = window(policy, config, episode, 199).returns_to_go[0, :, 0] * policy.normalization.return_scale
    r = episode.rewards[197:].astype(np.float64)
    expected = [r[0] + 0.99 * r[1] + 0.99**2 * r[2], r[1] + 0.99 * r[2], r[2]]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_a_recorded_episode_where_the_environment_cannot_be_made(foretell, data, runs, tmp_path):
    dataset = open_dataset(data)
    nameless = tmp_path / "nameless.hdf5"
    write_dataset(nameless, replace(dataset, metadata=replace(dataset.metadata, environment=None)))
    config = small_config("decision-transformer", context_length=3, width=8, layers=1)
    run = facade.train(
        nameless, tmp_path / "nameless", model=config, training=TRAINING, condition="none"
    )  # fmt: skip
    foretell("inspect", run, "--attention").refusal(2, "--environment", "--dataset")
    answer = foretell("inspect", run, "--attention", "--dataset", nameless, "--timestep", 7, "--json")
    found = json.loads(answer.out)
    assert found["episode"] == {
        "of": "nameless", "length": 200, "return": pytest.approx(float(dataset.rewards[:200].sum()), rel=1e-5),
    }  # fmt: skip
    assert found["maps"][0]["queries"][:3] == ["R 5", "s 5", "a 5"]


REFUSED = {
    "a timestep that is not there": (("--attention", "--timestep", 200), ("timestep 200", "0 to 199")),
    "a figure of another kind": (("--attention", "--out", "seen.svg"), ("seen.svg", ".png")),
    "a card of a figure": (("--attention", "--card", "c.json"), ("--card",)),
    "a time limit without a file": (("--attention", "--horizon", 9), ("--horizon", "--dataset")),
    "a timestep of a card": (("--timestep", 3), ("--timestep", "--attention")),
    "another environment": (
        ("--attention", "--environment", "CartPole-v1"),
        ("CartPole-v1", "2 choices of action", "1 action dimension."),
    ),
    "an environment of a card": (("--environment", "Pendulum-v1"), ("--environment",)),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_refused(foretell, run_copy, tmp_path, fault):
    arguments, words = REFUSED[fault]
    before = contents(tmp_path)
    foretell("inspect", run_copy, *arguments).refusal(2, *words)
    assert contents(tmp_path) == before


def test_data_of_another_environment_are_refused(foretell, run_copy, cartpole_random):
    words = ("discrete actions", "(4,)", "(3,)")
    foretell("inspect", run_copy, "--attention", "--dataset", cartpole_random.path).refusal(2, *words)


def test_a_run_without_attention_is_refused(foretell, data, tmp_path):
    run = facade.train(
        data, tmp_path / "run", algorithm="mlp", model=small_config("mlp"),
        training=TRAINING, condition="none",
    )  # fmt: skip
    foretell("inspect", run, "--attention").refusal(2, "mlp", "no attention", "encoder-decoder")
    foretell("inspect", data, "--attention").refusal(4, "config.json")


@pytest.mark.parametrize("name", NAMES)
def test_the_card_of_a_run(foretell, runs, name):
    card = json.loads(foretell("inspect", runs / name, "--json").out)
    config, tensors = load_run(runs / name)
    assert card["algorithm"] == name
    assert (card["kind"], card["condition"], card["environment"]) == (
        "sequence",
        TOLD[name]["condition"],
        "Pendulum-v1",
    )
    assert (card["dataset"]["name"], card["dataset"]["steps"]) == ("pendulum-random", 2_000)
    assert (card["updates"], card["seed"]) == (3, 0)
    assert card["acting"] == config["acting"]
    assert card["target"] == config["target"]
    weights = {key: value for key, value in tensors.items() if not key.startswith(("asking/", "discretizer."))}
    assert card["parameters"] == sum(value.numel() for value in weights.values())
    events = [json.loads(line) for line in (runs / name / "events.jsonl").read_text().splitlines()]
    measured = [event["mean_return"] for event in events if event.get("event") == "evaluation"]
    assert len(measured) == (name == EVALUATED)
    assert (card["validation"] or {}).get("mean_return") == (measured[0] if measured else None)
    assert card["evaluations"] == []


def test_the_card_says_what_was_evaluated(foretell, run_copy, tmp_path):
    assert foretell("evaluate", run_copy, "--episodes", 3, "--name", "mine").code == 0
    with pytest.warns(UserWarning, match="outside the returns"):
        asked = facade.evaluate(run_copy, episodes=2, target_returns=[-10.0], name="mine")
    records = [json.loads(line) for line in (run_copy / "evaluations.jsonl").read_text().splitlines()]
    returns = [record["return"] for record in records if "return" in record]
    (found,) = run_card(run_copy)["evaluations"]
    assert found == {
        "environment": "Pendulum-v1", "policy": "mine", "target": None, "episodes": 3,
        "mean_return": pytest.approx(np.mean(returns)),
    }  # fmt: skip
    assert len(asked) == 2
    answer = foretell("inspect", run_copy, "--card", tmp_path / "card.json")
    assert f"mine: {np.mean(returns):.1f} on average over 3 episodes" in answer.out
    assert "20 updates, seed 0" in answer.out
    assert json.loads((tmp_path / "card.json").read_text())["algorithm"] == "decision-transformer"


def test_the_card_of_an_agent_and_of_value_functions(agents, pendulum_random, tmp_path):
    card = run_card(agents[0])
    assert (card["kind"], card["updates"], card["model"], card["dataset"]) == ("sac", 260, None, None)
    values = facade.train_iql(pendulum_random, tmp_path / "iql", values=_iql())
    card = run_card(values)
    assert (card["kind"], card["updates"], card["condition"]) == ("values", 2, None)
    _, tensors = load_run(values)
    assert card["parameters"] == sum(v.numel() for name, v in tensors.items() if name not in ("offset", "scale"))


def _iql():
    from foretell.values.configs import IQLConfig

    return IQLConfig(updates=2, hidden_sizes=(4,), batch_size=4)


@pytest.mark.parametrize("part", ["model.safetensors", "config.json"])
def test_a_folder_without_a_finished_run_is_refused(foretell, run_copy, part):
    (run_copy / part).unlink()
    foretell("inspect", run_copy).refusal(4, part)


def test_every_part_of_a_window_is_of_its_timesteps(runs, pendulum_random):
    """At the episode's beginning there are fewer timesteps than the context; none is made up."""
    policy = facade.load_policy(runs / "encoder-decoder")
    config, _ = load_run(runs / "encoder-decoder")
    episode = recorded_episode(policy, pendulum_random, None)
    batch = window(policy, config, episode, 1)
    lengths = {field.name: getattr(batch, field.name).shape[1] for field in fields(batch) if field.name != "goals"}
    assert set(lengths.values()) == {2}
