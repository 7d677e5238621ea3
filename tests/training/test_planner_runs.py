"""Runs of the Trajectory Transformer and the encoder-decoder, whole: from data to a folder, and acting from there."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace

import gymnasium
import numpy as np
import pytest
import torch

from foretell import facade
from foretell.cli import main as command_line
from foretell.core.errors import CheckpointError, UsageError
from foretell.evaluation.configs import ChunkingConfig, PlanningConfig
from foretell.evaluation.planned import PlanningPolicy
from foretell.evaluation.policies import restore_values
from foretell.facade import training as module
from foretell.models.configs import TrajectoryTransformerConfig
from foretell.sequences.normalization import Normalization
from foretell.training.configs import TrainingConfig
from foretell.training.run_folder import load_run
from foretell.values.asking import foretold_of
from foretell.values.configs import IQLConfig
from reference.making import make_dataset, small_config

TRAINING = TrainingConfig(updates=4, batch_size=4, log_every=2, warmup_updates=2)
VALUES = IQLConfig(updates=20, batch_size=8, hidden_sizes=(8, 8))
BRIEF = PlanningConfig(beam_width=3)
SHORT = "ForetellBriefPendulum-v0"
BEHAVIOURS = {"return": "return", "value": "value", "none": "imitation"}


@pytest.fixture(scope="module", autouse=True)
def _brief_pendulum():
    """Pendulum of eight timesteps, where acting takes little time."""
    gymnasium.register(SHORT, entry_point="gymnasium.envs.classic_control:PendulumEnv", max_episode_steps=8)
    yield
    del gymnasium.registry[SHORT]


def _train(data, out, algorithm="trajectory-transformer", condition="return", **changes):
    acting = BRIEF if algorithm == "trajectory-transformer" else None
    values = VALUES if condition == "value" else None
    settings = {"model": small_config(algorithm), "training": TRAINING, "acting": acting, "values": values, **changes}
    return facade.train(data, out, algorithm=algorithm, condition=condition, **settings)


def _play(policy, steps=6, envs=3):
    rng = np.random.default_rng(4)
    policy.reset(envs)
    actions = []
    for _ in range(steps):
        actions.append(policy.act(rng.normal(size=(envs, 3)).astype(np.float32)))
        policy.observe(rng.normal(size=envs))
    return np.stack(actions)


@pytest.fixture(scope="module")
def runs(pendulum_random, tmp_path_factory):
    """A finished run under every condition that a planner knows, and one of the encoder-decoder."""
    folder = tmp_path_factory.mktemp("planners")
    found = {condition: _train(pendulum_random, folder / condition, condition=condition) for condition in BEHAVIOURS}
    return {**found, "chunks": _train(pendulum_random, folder / "chunks", "encoder-decoder", "none")}


# What a run folder holds.


@pytest.mark.parametrize("condition", BEHAVIOURS)
def test_a_folder_is_all_that_is_needed(condition, pendulum_random, tmp_path, monkeypatch):
    """Trained from a file; the file and the run are gone; a copy of the run acts as what was trained."""
    trained, plain = [], module.acting_policy
    monkeypatch.setattr(module, "acting_policy", lambda *given: trained.append(plain(*given)) or trained[-1])
    (tmp_path / "here").mkdir()
    source = shutil.copy(pendulum_random.path, tmp_path / "here" / "data.hdf5")
    run = _train(str(source), tmp_path / "here" / "run", condition=condition)
    moved = shutil.copytree(run, tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "here")
    policy = facade.load_policy(moved)
    assert isinstance(policy, PlanningPolicy)
    assert policy.planning == replace(BRIEF, behaviour=BEHAVIOURS[condition])
    actions = _play(policy)
    np.testing.assert_array_equal(actions, _play(trained[0]))
    assert np.ptp(actions) > 1e-3
    assert len(facade.evaluate(moved, environment=SHORT, episodes=2)) == 2


def test_config_tells_how_the_run_acts(runs):
    for name, run in runs.items():
        config = json.loads((run / "config.json").read_text())
        expected = asdict(ChunkingConfig()) if name == "chunks" else asdict(BRIEF) | {"goal": []}
        assert config["acting"] == expected
        assert config["condition"] == ("none" if name == "chunks" else name)
        assert config["target"] == {"rule": "nothing is asked for", "return": None}
    other = facade.train(
        make_dataset([9, 5]), runs["return"].parent / "plain", model=small_config("decision-transformer"),
        training=TRAINING, condition="none",
    )  # fmt: skip
    assert json.loads((other / "config.json").read_text())["acting"] is None


def test_values_inside_are_those_that_are_acted_on(runs, pendulum_random, tmp_path):
    copy = shutil.copytree(runs["value"], tmp_path / "copy")
    functions = restore_values(*load_run(copy / "values"))
    policy = facade.load_policy(copy)
    for name, value in functions.state_dict().items():
        assert torch.equal(policy.functions.state_dict()[name], value), name
    normalization = Normalization.from_json(load_run(copy)[0]["normalization"])
    discount = TrajectoryTransformerConfig().discount
    told = foretold_of("value", pendulum_random, normalization, functions, discount=discount).numbers
    edges = policy.model.discretizer.edges[-1].numpy()
    np.testing.assert_allclose(edges, np.quantile(told, np.linspace(0, 1, 10)), atol=1e-5)
    shutil.rmtree(copy / "values")
    with pytest.raises(CheckpointError, match="values"):
        facade.load_policy(copy)


def test_discounted_returns_are_foretold_by_the_models_discount(pendulum_random, tmp_path):
    """The bins of the last slot are those of the numbers; so a discount that nobody reads would be seen."""
    edges = []
    for discount in (0.5, 1.0):
        model = replace(small_config("trajectory-transformer"), discount=discount)
        run = _train(pendulum_random, tmp_path / str(discount), model=model)
        normalization = Normalization.from_json(load_run(run)[0]["normalization"])
        told = foretold_of("return", pendulum_random, normalization, discount=discount).numbers
        edges.append(facade.load_policy(run).model.discretizer.edges[-1].numpy())
        np.testing.assert_allclose(edges[-1], np.quantile(told, np.linspace(0, 1, 10)), atol=1e-5)
    assert np.abs(edges[0] - edges[1]).max() > 0.1


# What is refused.


@pytest.mark.parametrize("changes", [{"target": -200.0}, {"condition": "advantage"}], ids=str)
def test_planners_ask_for_nothing(changes, pendulum_random, tmp_path):
    with pytest.raises(UsageError, match="plans and asks for nothing: no --target, no --condition advantage"):
        _train(pendulum_random, tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("algorithm", "acting"), [
    ("encoder-decoder", PlanningConfig()), ("trajectory-transformer", ChunkingConfig()), ("mlp", ChunkingConfig()),
])  # fmt: skip
def test_settings_of_another_models_acting_are_refused(algorithm, acting, pendulum_random, tmp_path):
    with pytest.raises(UsageError, match=f"acting is {type(acting).__name__}; {algorithm} takes"):
        _train(pendulum_random, tmp_path / "run", algorithm, acting=acting)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("algorithm", "condition", "acting", "words"), [
    ("trajectory-transformer", "value", replace(BRIEF, horizon=5), "longer than the window"),
    ("trajectory-transformer", "return", replace(BRIEF, behaviour="value"), "no value functions"),
    ("trajectory-transformer", "return", replace(BRIEF, goal=(0.0, 0.0, 0.0)), "without goals"),
    ("encoder-decoder", "none", ChunkingConfig(actions_taken=3), "writes 2 actions"),
])  # fmt: skip
def test_acting_that_is_impossible_is_refused_before_anything_is_written(
    algorithm, condition, acting, words, pendulum_random, tmp_path
):
    """And before value functions are learned for minutes: mended, the same command goes into the same folder."""
    with pytest.raises(UsageError, match=words):
        _train(pendulum_random, tmp_path / "run", algorithm, condition, acting=acting)
    assert not (tmp_path / "run" / "config.json").exists()
    assert not (tmp_path / "run" / "values").exists()


def test_target_returns_and_the_settings_of_others_are_refused_in_evaluation(runs):
    for condition in BEHAVIOURS:
        with pytest.raises(UsageError, match="planners and the policies without a run take none"):
            facade.evaluate(runs[condition], episodes=1, target_returns=[-200.0])
    with pytest.raises(UsageError, match="actions_taken: no settings of how a run of trajectory-transformer acts"):
        facade.evaluate(runs["return"], episodes=1, acting={"actions_taken": 2})
    with pytest.raises(UsageError, match="beam_width: no settings of how a run of encoder-decoder acts"):
        facade.load_policy(runs["chunks"], acting={"beam_width": 2})


def test_policies_without_a_run_have_no_settings_of_acting():
    with pytest.raises(UsageError, match="expected none"):
        facade.evaluate("random", environment="Pendulum-v1", episodes=1, acting={"horizon": 2})


# What can be changed afterwards.


def test_changes_in_evaluation_take_effect(runs):
    def returns(name, **acting):
        records = facade.evaluate(runs[name], environment=SHORT, episodes=5, acting=acting or None)
        return [record["return"] for record in records]

    assert returns("return") == returns("return", beam_width=3, behaviour="return")
    found = [returns("return"), returns("return", behaviour="expectation"), returns("return", seed=1)]
    assert found[0] != found[1]
    assert found[0] != found[2]
    assert returns("chunks") == returns("chunks", actions_taken=1) != returns("chunks", actions_taken=2)
    assert facade.load_policy(runs["return"], acting={"horizon": 2}).planning.horizon == 2


def _answer(capsys, *arguments):
    code = command_line.main([str(argument) for argument in arguments])
    return code, capsys.readouterr()


@pytest.fixture
def threads(monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)


SMALL = [
    "--trajectory-transformer.context-length", "3", "--trajectory-transformer.width", "8",
    "--trajectory-transformer.layers", "1", "--trajectory-transformer.heads", "2",
    "--trajectory-transformer.bins", "5", "--updates", "2", "--batch-size", "4", "--json",
]  # fmt: skip


@pytest.mark.usefixtures("threads")
def test_the_command_line_trains_and_changes_how_it_acts(pendulum_random, tmp_path, capsys):
    run = tmp_path / "run"
    code, told = _answer(
        capsys, "train", pendulum_random.path, "--out", run, "--algorithm", "trajectory-transformer", *SMALL,
        "--planning.beam-width", 2, "--planning.horizon", 2, "--planning.action-top-k", 3,
    )  # fmt: skip
    assert code == 0, told.err
    planning = PlanningConfig(beam_width=2, horizon=2, action_top_k=3)
    assert json.loads((run / "config.json").read_text())["acting"] == asdict(planning) | {"goal": []}
    means = []
    for changes in ([], ["--planning.behaviour", "imitation"]):
        code, told = _answer(capsys, "evaluate", run, "--environment", SHORT, "--episodes", 1, *changes, "--json")
        assert code == 0, told.err
        means.append(json.loads(told.out)["evaluations"][0]["mean_return"])
    expected = facade.evaluate(run, environment=SHORT, episodes=1, acting={"behaviour": "imitation"})
    assert means[1] == pytest.approx(expected[0]["return"])
    assert means[0] != means[1]
    for refused, words in (
        (["--chunking.actions-taken", 2], "actions_taken"), (["--target-returns", "-100"], "planners"),
        (["--planning.horizon", 4], "longer than the window"),
    ):  # fmt: skip
        code, told = _answer(capsys, "evaluate", run, "--episodes", 1, *refused)
        assert code == 2
        assert words in told.err


@pytest.mark.usefixtures("threads")
def test_a_filter_can_be_taken_away_on_the_command_line(pendulum_random, runs, capsys, monkeypatch):
    """None is a setting, observations drawn among all, and not the same as a flag that was not given."""
    given, plain = [], facade.evaluate
    monkeypatch.setattr(
        facade, "evaluate", lambda *found, **said: given.append(said["acting"]) or plain(*found, **said)
    )
    code, told = _answer(
        capsys, "evaluate", runs["return"], "--environment", SHORT, "--episodes", 1, "--out",
        runs["return"].parent / "records.jsonl", "--planning.observation-top-k", "None",
    )  # fmt: skip
    assert code == 0, told.err
    assert given == [{"observation_top_k": None}]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(("algorithm", "flags", "words"), [
    ("trajectory-transformer", ["--chunking.actions-taken", "2"], "--chunking flags do not apply"),
    ("encoder-decoder", ["--planning.horizon", "2"], "--planning flags do not apply"),
    ("decision-transformer", ["--planning.horizon", "2"], "--planning flags do not apply"),
    ("mlp", ["--trajectory-transformer.bins", "5"], "--trajectory-transformer flags do not apply"),
    ("mlp", ["--width", "32"], "--algorithm mlp with --condition return; its own begin with --mlp. (foretell"),
    ("trajectory-transformer", ["--condition", "advantage"], "asks for nothing"),
])  # fmt: skip
def test_flags_of_others_are_refused_on_the_command_line(algorithm, flags, words, pendulum_random, tmp_path, capsys):
    command = ["train", pendulum_random.path, "--out", tmp_path / "run", "--algorithm", algorithm, *flags]
    code, told = _answer(capsys, *command)
    assert code == 2
    assert words in told.err
    assert not (tmp_path / "run").exists()
