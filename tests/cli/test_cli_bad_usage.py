"""Wrong flags, names, folders and combinations: exit code 2, or 4 for run folders; what is there stays as it is."""

from __future__ import annotations

import json

import pytest
from cli_helpers import SMALL, contents

from foretell import facade
from foretell.core.errors import UsageError

USAGE = {
    "unknown environment": (("collect", "random", "--environment", "Nope-v1", "--out", "x.hdf5"), ("'Nope-v1'",)),
    "environment of a module": (("collect", "random", "--environment", "os:A-v0", "--out", "x.hdf5"), ("'A-v0'",)),
    "environment of no module": (
        ("collect", "random", "--environment", "nowhere:A-v0", "--out", "x.hdf5"),
        ("module 'nowhere'", "No module named"),
    ),
    "module without an environment": (
        ("collect", "random", "--environment", "os:", "--out", "x.hdf5"),
        ("--environment os:", "module:Id"),
    ),
    "no steps": (("collect", "random", "--steps", 0, "--out", "x.hdf5"), ("--steps 0", "at least 1")),
    "no HDF5 name": (("collect", "random", "--out", "x.csv"), ("x.csv", ".hdf5")),
    "no dataset": (("train", "--out", "run"), ("needs a dataset",)),
    "SAC with a dataset": (("train", "a.hdf5", "--algorithm", "sac", "--out", "run"), ("takes no dataset",)),
    "no updates": (("train", "a.hdf5", "--out", "run", "--updates", 0), ("updates is 0", "above 0")),
    "heads": (("train", "a.hdf5", "--out", "run", "--width", 10, "--heads", 3), ("width 10", "3 heads")),
    "context": (("train", "a.hdf5", "--out", "run", "--context-length", 0), ("context_length is 0",)),
    "no episodes": (("evaluate", "run", "--episodes", 0), ("--episodes 0", "at least 1")),
    "random without a file": (("evaluate", "random", "--environment", "Pendulum-v1"), ("--out",)),
    "random without a world": (("evaluate", "random", "--out", "random.jsonl"), ("--environment",)),
    "unknown preset": (("reproduce", "--preset", "nope"), ("'nope'", "pendulum", "report_2021")),
    "no seeds": (("reproduce", "--seeds", 0), ("--seeds 0", "at least 1")),
    "no workers": (
        ("train", "a.hdf5", "--out", "run", "--seeds", "0..1", "--workers", 0),
        ("--workers 0", "at least 1"),
    ),
    "too many seeds": (("train", "a.hdf5", "--out", "run", "--seeds", "0..10000"), ("10,001 seeds", "at most 10,000")),
    "too many threads": (("evaluate", "run", "--threads", 100_000), ("--threads 100000", "at most 1024")),
    "a seed beside seeds": (
        ("train", "a.hdf5", "--out", "run", "--seeds", "0..1", "--seed", 3),
        ("--seed:", "--seeds"),
    ),
    "threads of seeds": (("train", "a.hdf5", "--out", "run", "--seeds", "0..1", "--threads", 1), ("--workers",)),
    "workers of one": (("train", "a.hdf5", "--out", "run", "--workers", 2), ("--workers", "--seeds")),
    "validation of a network that is never evaluated": (
        ("train", "a.hdf5", "--out", "run", "--validation-episodes", 7),
        ("--validation-episodes", "--evaluate-every"),
    ),
    "validation of values that are never evaluated": (
        ("train", "a.hdf5", "--out", "run", "--algorithm", "iql", "--validation-episodes", 7),
        ("--validation-episodes", "--evaluate-every"),
    ),
    "a time limit for Minari": (("inspect", "minari:some-v0", "--horizon", 9), ("horizon (9)", "Leave it out")),
    "no validation": (("train", "a.hdf5", "--out", "run", "--validation-episodes", -1), ("-1", "at least 1")),
}


@pytest.mark.parametrize("fault", USAGE)
def test_usage_errors(foretell, tmp_path, fault):
    command, words = USAGE[fault]
    foretell(*command).refusal(2, *words)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    "command", [("frob",), ("train", "a.hdf5", "--out", "run", "--widht", "3"), ("train", "a.hdf5")]
)
def test_the_parser_refuses_with_the_same_exit_code(foretell, command):
    answer = foretell(*command)
    assert (answer.code, answer.out) == (2, "")
    assert "Traceback" not in answer.err
    assert "help" in answer.err


@pytest.mark.parametrize("target", ["nan", "inf"])
def test_a_target_return_is_a_finite_number(foretell, data, run_copy, tmp_path, target):
    before = contents(tmp_path)
    foretell("train", data, "--out", "other", "--target", target, *SMALL).refusal(2, target, "finite")
    foretell("evaluate", run_copy, "--episodes", 2, "--target-returns", target).refusal(2, target, "finite")
    assert contents(tmp_path) == before


def test_a_target_return_outside_the_data_is_a_warning(foretell, run_copy):
    answer = foretell("evaluate", run_copy, "--episodes", 2, "--target-returns", 5, "--json")
    assert answer.code == 0
    assert answer.err.splitlines()[0].startswith("foretell: warning: target return 5 is outside the returns in")
    answer = foretell("evaluate", run_copy, "--episodes", 2, "--target-returns", 5, 6, "--json")
    assert answer.err.splitlines()[0].startswith("foretell: warning: target returns 5, 6 are outside the returns in")


def test_a_run_and_an_environment_of_different_shapes(foretell, run_copy, tmp_path):
    before = contents(tmp_path)
    answer = foretell("evaluate", run_copy, "--environment", "CartPole-v1")
    answer.refusal(2, "CartPole-v1 has observations [4]", "trained for [3]")
    assert contents(tmp_path) == before


def test_sac_refuses_discrete_actions_and_leaves_nothing_behind(foretell, tmp_path):
    foretell("train", "--algorithm", "sac", "--environment", "CartPole-v1", "--out", "agent").refusal(2, "discrete")
    assert contents(tmp_path) == {}


def test_a_refused_start_leaves_its_folder_free_for_the_right_one(foretell, data, tmp_path):
    from cli_helpers import rewrite

    rewrite(data, lambda file: file.pop("metadata"))
    command = ("train", data, "--out", tmp_path / "run", *SMALL)
    foretell(*command, "--evaluate-every", 5).refusal(2, "evaluate_every", "--environment")
    assert foretell(*command).code == 0


def test_shapes_are_told_as_people_call_them(foretell, run_copy):
    answer = foretell("evaluate", run_copy, "--environment", "CartPole-v1")
    answer.refusal(2, "observations [4] and 2 choices of action", "trained for [3] and 1 action dimension.")


@pytest.mark.parametrize("verb", ["train", "inspect"])
def test_a_time_limit_is_refused_where_the_file_says_where_episodes_end(foretell, data, tmp_path, verb):
    before = contents(tmp_path)
    out = ("--out", "new", *SMALL) if verb == "train" else ()
    foretell(verb, data, "--horizon", 100, *out).refusal(2, "'timeouts' say where episodes end", "horizon (100)")
    assert contents(tmp_path) == before


def test_where_a_run_is_expected_seeds_and_other_things_are_named(foretell, data, run_copy, tmp_path):
    (tmp_path / "several").mkdir()
    run_copy.rename(tmp_path / "several" / "seed-4")
    (tmp_path / "begun").mkdir()
    foretell("inspect", "several").refusal(4, "runs of several seeds", "several/seed-4")
    for verb in ("evaluate", "inspect"):
        foretell(verb, "begun").refusal(4, "no config.json", "start it again")
    foretell("inspect", data, "--attention").refusal(4, "is a file", "finished run")


def _broken_config(run):
    (run / "config.json").write_text("{")


def _cut_weights(run):
    weights = run / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])


RUNS = {
    "missing": (lambda run: run.rename(run.with_name("elsewhere")), "No such file"),
    "unfinished": (lambda run: (run / "model.safetensors").unlink(), "model.safetensors"),
    "config damaged": (_broken_config, "config.json"),
    "weights cut short": (_cut_weights, "model.safetensors"),
}


@pytest.mark.parametrize("fault", RUNS)
def test_run_folders_that_cannot_be_used(foretell, run_copy, tmp_path, fault):
    damage, words = RUNS[fault]
    damage(run_copy)
    before = contents(tmp_path)
    foretell("evaluate", run_copy, "--episodes", 2).refusal(4, words)
    assert contents(tmp_path) == before


def test_a_model_is_no_agent_to_collect_with(foretell, run_copy):
    foretell("collect", "sac-agent", "--agent", run_copy, "--steps", 200, "--out", "x.hdf5").refusal(2, "SAC")


def test_a_report_needs_an_experiment(foretell, tmp_path):
    foretell("report", tmp_path).refusal(4, "experiment.json", "foretell reproduce")
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    "command", [("train", "pendulum.hdf5", "--out", "taken", *SMALL), ("reproduce", "--quick", "--out", "taken")]
)
def test_a_folder_of_something_else_is_not_touched(foretell, data, tmp_path, command):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("\\chapter{One}")
    before = contents(tmp_path)
    foretell(*command).refusal(2, "taken", "choose another --out")
    assert contents(tmp_path) == before


def test_seeds_do_not_go_where_something_else_lies(foretell, data, run_copy, tmp_path):
    (tmp_path / "text").write_text("mine")
    before = contents(tmp_path)
    for out, what in ((run_copy, "config.json"), (tmp_path / "text", "no folder")):
        foretell("train", data, "--out", out, "--seeds", "0..1", *SMALL).refusal(2, what, "another --out")
    assert contents(tmp_path) == before


def test_a_run_of_another_configuration_is_not_touched(foretell, data, tmp_path):
    assert foretell("train", data, "--out", "run", *SMALL).code == 0
    before = contents(tmp_path)
    answer = foretell("train", data, "--out", "run", *SMALL, "--learning-rate", 0.5)
    answer.refusal(2, "run: holds a run of another configuration", "training.learning_rate 0.001 there, 0.5 here")
    assert contents(tmp_path) == before


def test_records_that_cannot_be_written_are_refused_before_an_episode_is_run(foretell, run_copy, tmp_path, monkeypatch):
    from foretell.facade import evaluation

    monkeypatch.setattr(evaluation, "run_episodes", lambda *_, **__: pytest.fail("it ran"))
    (tmp_path / "file").write_text("mine")
    foretell("evaluate", run_copy, "--out", tmp_path / "file" / "a.jsonl").refusal(2, "file")
    foretell("evaluate", run_copy, "--out", "/proc/a/b.jsonl").refusal(6, "/proc")
    assert (tmp_path / "file").read_text() == "mine"


def test_records_are_not_added_to_a_file_of_another_kind(foretell, run_copy, tmp_path):
    before = contents(tmp_path)
    answer = foretell("evaluate", run_copy, "--episodes", 2, "--out", run_copy / "events.jsonl", "--json")
    answer.refusal(4, "events.jsonl")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("text", ["Dear diary\n", '{"event": "training"}\n'])
def test_a_file_of_another_kind_is_refused_before_the_episodes(foretell, run_copy, tmp_path, monkeypatch, text):
    from foretell.facade import evaluation

    (tmp_path / "diary.txt").write_text(text)
    monkeypatch.setattr(evaluation, "run_episodes", lambda *_, **__: pytest.fail("was evaluated first"))
    answer = foretell("evaluate", run_copy, "--episodes", 2, "--out", "diary.txt")
    answer.refusal(4, "diary.txt", "choose another --out")
    assert (tmp_path / "diary.txt").read_text() == text


def test_another_recording_is_refused_before_anything_is_recorded(foretell, data, tmp_path, monkeypatch):
    from foretell.collection import recipes

    data.with_suffix(".request.json").unlink(missing_ok=True)
    monkeypatch.setattr(recipes, "collect_random", lambda *_, **__: pytest.fail("was recorded first"))
    before = contents(tmp_path)
    foretell("collect", "random", "--steps", 10, "--out", data).refusal(2, "another recording", "another --out")
    assert contents(tmp_path) == before


def test_a_card_does_not_replace_a_dataset(foretell, data, tmp_path):
    before = contents(tmp_path)
    foretell("inspect", data, "--card", data).refusal(2, "--card")
    assert contents(tmp_path) == before


def test_the_best_return_of_the_data_is_not_outside_them(foretell, run_copy):
    """Of float32 rewards, what people type is another number in its last digits."""
    returns = json.loads((run_copy / "config.json").read_text())["dataset"]
    typed = [float(f"{returns[name]:.7g}") for name in ("lowest_return", "highest_return")]
    assert "outside" not in foretell("evaluate", run_copy, "--episodes", 1, "--target-returns", *typed).err


def test_a_target_that_is_a_text_is_refused(data, tmp_path):
    with pytest.raises(UsageError, match="target '100'; expected a number"):
        facade.train(data, tmp_path / "run", target="100")


def test_a_link_to_itself_is_no_output(foretell, tmp_path):
    for name in ("loop.hdf5", "loop.jsonl"):
        (tmp_path / name).symlink_to(tmp_path / name)
    foretell("collect", "random", "--steps", 10, "--out", "loop.hdf5").refusal(2, "loop.hdf5", "leads to itself")
    foretell("evaluate", "random", "--environment", "Pendulum-v1", "--out", "loop.jsonl").refusal(2, "leads to itself")


def test_a_run_folder_that_is_not_there_is_not_taken_for_a_dataset_of_another_name(foretell):
    foretell("inspect", "runs/nope").refusal(2, "runs/nope: is not there; expected a run folder, a dataset")
    foretell("inspect", "notes.txt").refusal(2, "expected a path that ends in .hdf5 or .h5")
