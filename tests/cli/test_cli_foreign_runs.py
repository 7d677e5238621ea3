"""Run folders of strangers, sealed anew or mixed up: refused in a sentence, with nothing written outside them."""

from __future__ import annotations

import copy
import json
import os
import resource
import shutil

import numpy as np
import pytest

from foretell import facade
from foretell.collection.recipes import collect_random
from foretell.core.checksums import KEY, sealed, sealed_lines
from foretell.core.errors import UsageError
from foretell.core.files import read_json_lines, write_json, write_json_lines
from foretell.facade.seeds import train_seeds
from foretell.models.configs import TrajectoryTransformerConfig
from foretell.training.checkpoints import load_tensors, save_tensors
from foretell.training.configs import TrainingConfig
from foretell.values.configs import IQLConfig
from reference.making import small_config

REMOVED = object()


def resealed(run, *changes):
    """Change settings of a run, by their dotted names, and seal all that belongs to the configuration anew."""
    config = json.loads((run / "config.json").read_text())
    config.pop(KEY)
    for name, value in changes:
        *outer, last = name.split(".")
        inner = config
        for part in outer:
            inner = inner[part]
        if value is REMOVED:
            del inner[last]
        else:
            inner[last] = copy.deepcopy(value)
    weights, logged = load_tensors(run / "model.safetensors"), read_json_lines(run / "events.jsonl")
    config = sealed(config)
    write_json(run / "config.json", config)
    save_tensors(run / "model.safetensors", weights, config[KEY])
    (run / "events.jsonl").write_text(sealed_lines(logged, config[KEY], growing=False))
    return run


@pytest.mark.parametrize(("name", "value", "said"), [
    ("environment", None, "environment is None; expected an object"),
    ("environment.horizon", "long", "environment.horizon is 'long'; expected a whole number or null"),
    ("dataset.lowest_return", REMOVED, "dataset lacks 'lowest_return'"),
    ("seed", [1], "seed is a list; expected a whole"),
    ("normalization.observation_mean", [], "0 means and 3 deviations of observations; expected 3 of each"),
    ("normalization.action_range", None, "its range of actions is not that of 1 numbers"),
    ("shape.action_dim", 2, "its range of actions is not that of 2 numbers"), ("kind", "other", "kind is 'other'"),
    ("target.return", "x", "target.return is 'x'; expected a finite number or null"), ("model", 3, "model is 3"),
    ("model.layers", 10**9, "layers is 1000000000; expected a whole number up to 1,000,000"),
    ("model.layers", 1e308, "layers is 1e+308; expected a whole number"),
    ("model.layers", 10**6, "1000000 layers, and weights in"), ("model.width", -1, "width is -1; expected"),
    ("model.width", 100_000, "where these sizes need"), ("model.context_length", 10**9, "context_length is 1000000000"),
    ("shape.max_timesteps", 10**8, "where these sizes need"),
    ("shape.observation_shape", [0], "3 means and 3 deviations of observations"),
    ("model.activation", "sine", "do not make a policy"), ("training.updates", "many", "training.updates is 'many'"),
])  # fmt: skip
def test_settings_that_no_run_has_are_named(foretell, run_copy, name, value, said):
    resealed(run_copy, (name, value))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for verb in (("inspect", run_copy), ("evaluate", run_copy, "--episodes", 1)):
        foretell(*verb).refusal(4, said)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # KiB: nothing was built of it


def test_wide_layers_of_values_and_agents_are_held_against_their_weights(foretell, agents, pendulum_random, tmp_path):
    values = facade.train_iql(
        pendulum_random, tmp_path / "values", values=IQLConfig(updates=1, batch_size=4, hidden_sizes=(8,))
    )
    agent = shutil.copytree(agents[0], tmp_path / "agent")
    for run, name in ((values, "values.hidden_sizes"), (agent, "agent.hidden_sizes")):
        resealed(run, (name, [60_000, 60_000]))
        foretell("evaluate", run, "--episodes", 1).refusal(4, "60000, 60000")
        resealed(run, (name, [1] * 5_000))
        foretell("evaluate", run, "--episodes", 1).refusal(4, "weights in")


@pytest.fixture
def planners(pendulum_random, tmp_path):
    """Two planners that search by value functions of their own."""
    return [
        facade.train(
            pendulum_random, tmp_path / f"planner-{seed}", algorithm="trajectory-transformer", condition="value",
            model=TrajectoryTransformerConfig(context_length=2, width=8, layers=1, heads=1, bins=8), seed=seed,
            training=TrainingConfig(updates=1, batch_size=4),
            values=IQLConfig(updates=2, batch_size=4, hidden_sizes=(8,)),
        )
        for seed in (0, 1)
    ]  # fmt: skip


def test_value_functions_of_another_run_are_refused(foretell, planners):
    """A copy that mixed two folders planned by them without a word."""
    one, other = planners
    assert foretell("evaluate", one, "--episodes", 1).code == 0
    shutil.rmtree(one / "values")
    shutil.copytree(other / "values", one / "values")
    foretell("evaluate", one, "--episodes", 1).refusal(4, "holds value functions of another run")


def test_a_run_that_began_with_other_weights_plans_by_its_own_values(foretell, planners, tmp_path):
    data = collect_random("Pendulum-v1", 600, 9, tmp_path / "wider.hdf5")
    run = facade.train(
        data, tmp_path / "further", algorithm="trajectory-transformer", condition="value", seed=3,
        model=TrajectoryTransformerConfig(context_length=2, width=8, layers=1, heads=1, bins=8),
        training=TrainingConfig(updates=1, batch_size=4), initial_weights=planners[0],
        values=IQLConfig(updates=2, batch_size=4, hidden_sizes=(8,)),
    )  # fmt: skip
    units = [json.loads((path / "config.json").read_text())["normalization"] for path in (run, run / "values")]
    assert units[0] != units[1]
    assert foretell("evaluate", run, "--episodes", 1).code == 0


def test_settings_of_acting_that_a_person_gives_are_theirs(planners):
    with pytest.raises(UsageError, match="horizon 50"):
        facade.load_policy(planners[0], acting={"horizon": 50})


def test_settings_of_values_that_there_are_not_are_refused_wherever_they_are_read(foretell, planners, pendulum_random):
    values = resealed(planners[0] / "values", ("values.foo", 1))
    foretell("inspect", values).refusal(4, "foo")
    resealed(planners[0], ("values.foo", 1))
    foretell("evaluate", planners[0], "--episodes", 1).refusal(4, "foo")


@pytest.mark.parametrize("condition", ["advantage", "return"])
def test_data_whose_observations_were_transformed_are_learned_from(condition, tmp_path):
    data = collect_random("Pendulum-v1", 400, 0, tmp_path / "two.hdf5", observation_transform=lambda seen: seen[:, :2])
    values = IQLConfig(updates=2, batch_size=4, hidden_sizes=(8,))
    with pytest.warns(UserWarning, match="Pendulum-v1 gives"):
        run = facade.train(
            data, tmp_path / "run", condition=condition, model=small_config("decision-transformer"),
            training=TrainingConfig(updates=1, batch_size=4), values=values if condition == "advantage" else None,
        )  # fmt: skip
    policy = facade.load_policy(run / "values" if condition == "advantage" else run)
    policy.reset(num_envs=1)
    assert policy.act(np.zeros((1, 2), np.float32)).shape == (1, 1)


def test_given_value_functions_are_known_by_their_bytes(foretell, planners, pendulum_random, tmp_path):
    run = facade.train(
        pendulum_random, tmp_path / "told", algorithm="trajectory-transformer", condition="value",
        model=TrajectoryTransformerConfig(context_length=2, width=8, layers=1, heads=1, bins=8),
        training=TrainingConfig(updates=1, batch_size=4), values_from=planners[1] / "values",
    )  # fmt: skip
    assert foretell("evaluate", run, "--episodes", 1).code == 0
    shutil.copytree(planners[0] / "values", run / "values", dirs_exist_ok=True)
    foretell("evaluate", run, "--episodes", 1).refusal(4, "holds value functions of another run")


@pytest.mark.parametrize(("name", "value"), [
    ("return", 10**400), ("return", "x"), ("policy", None), ("policy", ["a"]), ("policy", "a" * 100_000),
    ("algorithm", 3), ("dataset", True), ("settings", []), ("environment", {}), ("target", 10**400), ("seed", "0"),
    ("length", "long"),
])  # fmt: skip
def test_records_of_other_kinds_are_refused_wherever_they_are_read(foretell, run_copy, name, value):
    assert foretell("evaluate", run_copy, "--episodes", 2).code == 0
    path = run_copy / "evaluations.jsonl"
    records = [record | {name: value} for record in read_json_lines(path)]
    loose = run_copy.parent / "loose.jsonl"
    loose.write_text("".join(json.dumps(record) + "\n" for record in records))
    foretell("report", loose, "--out", "out").refusal(4, "loose.jsonl: record 1", name)
    write_json_lines(path, records)
    foretell("inspect", run_copy).refusal(4, "record 1", name)
    foretell("evaluate", run_copy, "--episodes", 2).refusal(4, "holds no evaluation records", name)


def test_a_name_that_no_record_can_have_is_refused_before_the_episodes(foretell, run_copy):
    foretell("evaluate", run_copy, "--name", "a" * 256).refusal(2, "name has 256 letters; expected at most 255")
    assert foretell("evaluate", run_copy, "--name", "a" * 255, "--episodes", 1).code == 0
    assert foretell("evaluate", run_copy, "--episodes", 1).code == 0


def test_events_of_other_kinds_are_refused(foretell, run_copy):
    for event in ({"event": []}, {"event": "evaluation", "update": 1, "mean_return": "x"}, {"x": 1},
                  {"event": "evaluation", "mean_return": 1.0}, {"event": "training", "update": "a"}):  # fmt: skip
        write_json_lines(run_copy / "events.jsonl", [event])
        foretell("inspect", run_copy).refusal(4, "events.jsonl: event 1")


def test_lines_that_are_longer_than_any_of_ours_are_not_read_whole(foretell, run_copy):
    with open(run_copy / "events.jsonl", "wb") as file:
        file.truncate(1 << 34)
    foretell("inspect", run_copy).refusal(4, "events.jsonl: line 1 is not JSON")


def test_a_run_is_what_a_hub_s_cache_links_to(foretell, run_copy, tmp_path):
    """Hugging Face's `snapshot_download` returns a folder of links to files elsewhere."""
    files = [path for path in run_copy.rglob("*") if path.is_file() and path.name != ".lock"]
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0123abcd"
    blobs.mkdir()
    for number, path in enumerate(files):
        link = snapshot / path.relative_to(run_copy)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, blobs / str(number))
        link.symlink_to(os.path.relpath(blobs / str(number), link.parent))
    before = {path.name: path.read_bytes() for path in blobs.iterdir()}
    assert foretell("evaluate", snapshot, "--episodes", 2).code == 0
    assert foretell("evaluate", run_copy, "--episodes", 2).code == 0
    assert (snapshot / "evaluations.jsonl").read_bytes() == (run_copy / "evaluations.jsonl").read_bytes()
    assert foretell("inspect", snapshot).code == 0
    assert {path.name: path.read_bytes() for path in blobs.iterdir()} == before


def test_what_a_folder_links_to_is_left_alone(foretell, run_copy, tmp_path):
    assert foretell("evaluate", run_copy, "--episodes", 2).code == 0
    for name, target in (("evaluations.jsonl", tmp_path / "records"), (".lock", tmp_path / "lock")):
        (run_copy / name).unlink(missing_ok=True)
        (run_copy / name).symlink_to(target)
    assert foretell("evaluate", run_copy, "--episodes", 2).code == 0
    assert not (run_copy / "evaluations.jsonl").is_symlink()
    (tmp_path / "figures").mkdir()
    (run_copy / "figures").symlink_to(tmp_path / "figures")
    answer = foretell("report", run_copy)
    assert answer.code == 2
    assert "figures: is a link" in answer.err
    assert not list((tmp_path / "figures").iterdir())
    assert not (tmp_path / "records").exists()
    assert not (tmp_path / "lock").exists()


def test_records_of_another_folder_of_seeds_are_refused(foretell, data, tmp_path):
    for name, file in (("one", "pendulum.hdf5"), ("two", "again.hdf5")):
        if file == "again.hdf5":
            foretell("collect", "random", "--steps", 800, "--seed", 5, "--out", file)
        train_seeds(
            file, name, [0], model=small_config("decision-transformer"),
            training=TrainingConfig(updates=1, batch_size=4),
        )  # fmt: skip
        assert foretell("evaluate", name, "--episodes", 2).code == 0
    assert foretell("report", "one", "--out", "fine").code == 0
    shutil.copy("two/evaluations.jsonl", "one/evaluations.jsonl")
    answer = foretell("report", "one", "--out", "mixed")
    assert answer.code == 4
    assert "its records of seed 0 are of a run on other data than one/seed-0" in answer.err
    assert foretell("evaluate", "two", "--name", "beside", "--episodes", 2).code == 0
    (tmp_path / "one/evaluations.jsonl").unlink()
    assert foretell("evaluate", "one", "--episodes", 2).code == 0
    assert foretell("evaluate", "two", "--name", "beside", "--episodes", 2, "--out", "one/evaluations.jsonl").code == 0
    assert foretell("report", "one", "--out", "both").code == 0


def test_what_would_steer_a_terminal_is_spelled_out(foretell, run_copy):
    escape = "\x1b]0;title\x07\x1b[31mred"
    resealed(run_copy, ("dataset.name", escape), ("target.rule", escape))
    answer = foretell("inspect", run_copy)
    assert answer.code == 0
    assert "\x1b" not in answer.out + answer.err
    assert r"\x1b[31mred" in answer.out
    resealed(run_copy, ("environment.name", escape))
    answer = foretell("evaluate", run_copy, "--episodes", 1)
    assert answer.code == 2
    assert "\x1b" not in answer.out + answer.err


def test_checkpoints_of_other_kinds_give_way_or_are_named(foretell, data, tmp_path):
    command = ("train", data, "--out", "run", "--updates", 7, "--checkpoint-every", 2, "--context-length", 2, "--width",
               8, "--layers", 1, "--heads", 1, "--batch-size", 4, "--threads", 1, "--condition", "none")  # fmt: skip
    assert foretell(*command).code == 0
    (tmp_path / "run/model.safetensors").unlink()
    newest = tmp_path / "run/checkpoints/update-000000000006"
    manifest = json.loads((newest / "manifest.json").read_text())
    for changed in ({"update": "6"}, {"events": None}, {"wall_seconds": "long"}, {"versions": 3}):
        facts = {name: value for name, value in manifest.items() if name != KEY} | changed
        write_json(newest / "manifest.json", sealed(facts))
        assert foretell(*command).code == 0
        (tmp_path / "run/model.safetensors").unlink()
        write_json(newest / "manifest.json", manifest)
    os.rename(newest, tmp_path / "elsewhere")
    newest.symlink_to(tmp_path / "elsewhere")
    answer = foretell(*command)
    assert answer.code == 0, answer.err
    assert (tmp_path / "elsewhere" / "manifest.json").exists()
