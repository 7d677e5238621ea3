"""Several seeds with one command: each as if it had been trained alone."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from cli_helpers import SMALL, parse

from foretell import facade
from foretell.cli import seeds
from foretell.cli.flags import flags_of, parse_seeds
from foretell.collection.recipes import collect_random
from foretell.core.errors import UsageError
from foretell.core.files import sha256_of
from foretell.core.run_settings import differences
from foretell.models.registry import MODELS


def test_every_seed_is_the_run_that_it_would_be_alone(foretell, data, tmp_path):
    answer = foretell("train", data, "--out", "several", "--seeds", "0,2", *SMALL, "--json")
    assert json.loads(answer.out)["runs"] == ["several/seed-0", "several/seed-2"]
    assert foretell("train", data, "--out", "alone", "--seed", 2, *SMALL).code == 0
    several, alone = (sha256_of(tmp_path / run / "model.safetensors") for run in ("several/seed-2", "alone"))
    assert several == alone != sha256_of(tmp_path / "several/seed-0/model.safetensors")
    foretell("train", data, "--out", "several", "--seeds", "0,2", *SMALL, "--width", 4, "--json").refusal(
        2, "seed-", "width"
    )


def test_seeds_are_evaluated_together_as_each_is_alone(foretell, data, tmp_path, monkeypatch):
    monkeypatch.delenv("FORETELL_MODULES", raising=False)  # else it is part of what to do next
    trained = foretell("train", data, "--out", "several", "--seeds", "2,10", *SMALL)
    assert trained.out.splitlines()[-1] == "Next: foretell evaluate several"
    found = json.loads(foretell("evaluate", "several", "--episodes", 3, "--json").out)
    (row,) = found["evaluations"]
    alone = []
    for seed in (2, 10):
        answer = foretell("evaluate", f"several/seed-{seed}", "--episodes", 3, "--out", "alone.jsonl", "--json")
        alone.append(json.loads(answer.out)["evaluations"][0])
    assert (tmp_path / "several/evaluations.jsonl").read_text() == (tmp_path / "alone.jsonl").read_text()
    assert (row["seeds"], row["episodes"]) == ([2, 10], 3)
    assert row["mean_by_seed"] == [one["mean_return"] for one in alone]
    assert row["mean_return"] == pytest.approx(sum(row["mean_by_seed"]) / 2)
    assert row["ci95"][0] <= row["mean_return"] <= row["ci95"][1]
    said = foretell("evaluate", "several", "--episodes", 3, "--target-returns", -900, -700).out.splitlines()
    assert [line.split(" earned")[0] for line in said[::2]] == ["asked -900.0,", "asked -700.0,", said[-1]]
    assert "(2 seeds, 3 episodes each)" in said[0]
    assert said[1].startswith("  by seed: 2: -")
    assert ", 10: -" in said[1]
    again = foretell("train", data, "--out", "several", "--seeds", "2,10", *SMALL)  # with the records beside the seeds
    assert again.code == 0


def test_progress_of_several_seeds_is_one_count(foretell, data, monkeypatch):
    foretell("train", data, "--out", "several", "--seeds", "0..1", *SMALL)
    told = []
    facade.evaluate("several", episodes=1, progress=lambda done, total, **_: told.append((done, total)))
    assert told[-1] == (400, 400)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_seeds_that_are_not_alike_or_not_finished_have_no_mean(foretell, data, tmp_path):
    foretell("train", data, "--out", "several", "--seeds", "0..1", *SMALL)
    (tmp_path / "several/seed-1/model.safetensors").rename(tmp_path / "kept")
    foretell("evaluate", "several", "--episodes", 2).refusal(4, "seed-1", "model.safetensors")
    assert not (tmp_path / "several/evaluations.jsonl").exists()
    shutil.rmtree(tmp_path / "several/seed-1")
    foretell("train", data, "--out", "several/seed-1", "--seed", 1, *SMALL, "--weight-decay", 0.5)
    foretell("evaluate", "several", "--episodes", 2).refusal(2, "seed-1", "training.weight_decay", "there, 0.5 here")
    foretell("inspect", "several").refusal(4, "several seeds", "several/seed-0")


def test_settings_that_one_run_does_not_name_are_a_difference():
    first, second = {"model": {"width": 8}}, {"model": {"width": 8}, "horizon": 5, "training": {"optimizer": "adamw"}}
    assert differences(first, second) == "horizon None there, 5 here"
    assert differences(second, first) == ""  # what is not asked for here
    assert differences(second, first, ["horizon", "training.optimizer"]) == "horizon 5 there, None here"


@pytest.mark.parametrize(("text", "found"), [("0..3", [0, 1, 2, 3]), ("5", [5]), ("4,1", [4, 1])])
def test_seeds_are_read(text, found):
    assert parse_seeds(text) == found


@pytest.mark.parametrize("text", ["", "3..1", "1,1", "-1", "a", "1.5", "0..", "0...2"])
def test_what_names_no_seeds_is_refused(text):
    with pytest.raises(UsageError, match="expected different whole numbers"):
        parse_seeds(text)


@pytest.mark.parametrize("flag", [("--seed", 1), ("--threads", 1)])
def test_what_the_seeds_decide_cannot_be_given(foretell, data, flag):
    foretell("train", data, "--out", "several", "--seeds", "0..1", *flag, *SMALL).refusal(2, flag[0], "--seeds")


def test_workers_belong_to_seeds(foretell, data):
    foretell("train", data, "--out", "run", "--workers", 2, *SMALL).refusal(2, "--workers")


@pytest.mark.parametrize("algorithm", [*MODELS, "iql", "sac"])
@pytest.mark.parametrize("condition", ["return", "value"])
def test_the_command_of_one_seed_says_all_settings(algorithm, condition):
    """Parsed again, the command gives the same settings: nothing that was asked for is lost on the way."""
    given = ["--horizon", 100] if algorithm != "sac" else []
    given += ["--learning-rate", 0.5, "--condition", condition] if algorithm in MODELS else []
    given += ["--dropout", 0.25] if algorithm == "decision-transformer" else []
    given += ["--values.expectile", 0.6] if algorithm == "iql" or (given and condition == "value") else []
    if algorithm == "trajectory-transformer":
        given += ["--planning.goal", 1, 0, 0, "--trajectory-transformer.goals", "--planning.action-top-k", 7]
    if algorithm == "encoder-decoder":
        given += ["--chunking.actions-taken", 2]
    start = ["train", *(["data.hdf5"] if algorithm != "sac" else [])]
    verb = parse([*start, "--out", "runs", "--algorithm", algorithm, "--seeds", "0..1", *given])
    again = parse(verb.arguments(7))
    assert again == replace(verb, out=verb.out / "seed-7", seed=7, seeds=None, threads=1)


def test_no_settings_are_no_flags():
    assert flags_of(None) == []


def test_on_a_gpu_all_seeds_are_one_process(foretell, data, tmp_path, monkeypatch):
    monkeypatch.setattr(seeds, "is_one_program", lambda verb: True)
    answer = foretell("train", data, "--out", "several", "--seeds", "0..2", "--device", "auto", *SMALL, "--json")
    assert json.loads(answer.out)["runs"] == [f"several/seed-{seed}" for seed in (0, 1, 2)]
    assert foretell("train", data, "--out", "alone", "--seed", 2, *SMALL).code == 0
    several, alone = (sha256_of(tmp_path / run / "model.safetensors") for run in ("several/seed-2", "alone"))
    assert several == alone
    again = ("train", data, "--out", "several", "--seeds", "0..2", "--device", "auto")
    foretell(*again, *SMALL, "--workers", 2).refusal(2, "--workers", "one process")
    foretell(*again, *SMALL, "--width", 4).refusal(2, "seed-0", "width")


def test_without_a_gpu_auto_is_workers(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not seeds.is_one_program(
        parse(["train", "data.hdf5", "--out", "runs", "--seeds", "0..1", "--device", "auto"])
    )


def test_a_folder_is_named_after_the_seed_that_it_holds(foretell, data, tmp_path):
    """The same seed twice would count as two and halve what the interval says."""
    for name in ("seed-0", "seed-1"):
        assert foretell("train", data, "--out", f"loop/{name}", *SMALL).code == 0
    foretell("evaluate", "loop", "--episodes", 2).refusal(2, "loop/seed-1", "holds seed 0", "--seed 1")
    assert not (tmp_path / "loop/evaluations.jsonl").exists()
    (tmp_path / "loop/seed-1").rename(tmp_path / "loop/seed-00")
    assert foretell("evaluate", "loop", "--episodes", 2, "--json").code == 0


@pytest.mark.parametrize("algorithm", ["decision-transformer", "iql", "sac"])
def test_more_seeds_of_other_settings_are_refused_before_they_are_trained(foretell, data, tmp_path, algorithm):
    settings = {
        "decision-transformer": ([str(data)], SMALL, ("--updates", 11)),
        "iql": ([str(data)], ("--values.updates", 3, "--values.hidden-sizes", 8), ("--values.updates", 4)),
        "sac": ([], ("--sac.total-steps", 12, "--sac.learning-starts", 8, "--sac.hidden-sizes", 8),
                ("--sac.total-steps", 13)),
    }  # fmt: skip
    given, flags, others = settings[algorithm]
    train = ("train", *given, "--out", "several", "--algorithm", algorithm)
    assert foretell(*train, *flags, "--seeds", "0").code == 0
    foretell(*train, *flags, *others, "--seeds", "1").refusal(2, "seed-0", "was trained otherwise", "there, ")
    assert not (tmp_path / "several/seed-1").exists()
    assert foretell(*train, *flags, "--seeds", "0..1").code == 0


def test_the_card_of_a_seed_knows_what_was_measured_beside_all_others(foretell, data, monkeypatch):
    foretell("train", data, "--out", "several", "--seeds", "0..1", *SMALL)
    foretell("evaluate", "several", "--episodes", 3)
    foretell("evaluate", "several/seed-1", "--episodes", 2)  # from two of the same starts: once more is not more
    for seed in (0, 1):
        card = json.loads(foretell("inspect", f"several/seed-{seed}", "--json").out)
        assert [one["episodes"] for one in card["evaluations"]] == [3]
    monkeypatch.chdir("several/seed-0")
    here = json.loads(foretell("inspect", ".", "--json").out)
    assert [one["episodes"] for one in here["evaluations"]] == [3]


def test_to_record_an_agent_one_seed_has_to_be_chosen(foretell, agents, tmp_path):
    foretell("collect", "sac-agent", "--agent", agents[0].parent, "--steps", 10, "--out", "x.hdf5").refusal(
        4, "holds runs of several seeds", "seed-0"
    )


def test_a_folder_called_random_is_not_the_random_policy(foretell, data):
    foretell("train", data, "--out", "random", "--seeds", "0..1", *SMALL)
    command = ("evaluate", "random", "--environment", "Pendulum-v1", "--episodes", 2, "--out", "found.jsonl", "--json")
    assert len(json.loads(foretell(*command).out)["evaluations"][0]["seeds"]) == 1


def test_records_of_any_name_beside_seeds_are_no_strangers(foretell, data, tmp_path):
    foretell("train", data, "--out", "several", "--seeds", "0", *SMALL)
    foretell("evaluate", "several", "--episodes", 2, "--target-returns", -900, "--out", "several/asked.jsonl")
    assert foretell("train", data, "--out", "several", "--seeds", "0..1", *SMALL).code == 0
    (tmp_path / "several/notes.txt").write_text("mine")
    foretell("train", data, "--out", "several", "--seeds", "0..2", *SMALL).refusal(2, "notes.txt")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--target", -300), "target.return None there, -300.0 here"),
        (("--precision", "bfloat16"), "precision 'float32' there, 'bfloat16' here"),
        (("--best-share", 0.5), "best_share 1.0 there, 0.5 here"),
    ],
)
def test_more_seeds_that_ask_otherwise_are_refused(foretell, data, flags, words):
    assert foretell("train", data, "--out", "several", "--seeds", "0", *SMALL).code == 0
    foretell("train", data, "--out", "several", "--seeds", "1", *SMALL, *flags).refusal(2, "seed-0", words)


def test_more_seeds_of_other_data_are_refused(foretell, data, tmp_path):
    """They would be heard of when all have been trained and are evaluated."""
    assert foretell("train", data, "--out", "several", "--seeds", "0", *SMALL).code == 0
    collect_random("Pendulum-v1", 2000, seed=9, path=tmp_path / "other" / data.name)  # of the same name
    foretell("train", tmp_path / "other" / data.name, "--out", "several", "--seeds", "1", *SMALL).refusal(
        2, "dataset.fingerprint"
    )
    assert not (tmp_path / "several/seed-1").exists()


def test_seeds_may_begin_with_the_weights_of_a_run(foretell, data, tmp_path):
    assert foretell("train", data, "--out", "first", *SMALL).code == 0
    more = ("--initial-weights", "first", *SMALL)
    assert foretell("train", data, "--out", "several", "--seeds", "0..1", *more).code == 0
    assert foretell("train", data, "--out", "alone", "--seed", 1, *more).code == 0
    several, alone = (sha256_of(tmp_path / run / "model.safetensors") for run in ("several/seed-1", "alone"))
    assert several == alone
    foretell("train", data, "--out", "iql", "--algorithm", "iql", "--initial-weights", "first").refusal(
        2, "--initial-weights"
    )


def test_more_seeds_of_other_initial_weights_are_refused(foretell, data, tmp_path):
    assert foretell("train", data, "--out", "first", *SMALL).code == 0
    assert foretell("train", data, "--out", "several", "--seeds", "0", *SMALL).code == 0
    more = ("train", data, "--out", "several", "--seeds", "1", *SMALL, "--initial-weights")
    foretell(*more, "first").refusal(2, "seed-0", "initial_weights None there")
    foretell(*more, "nowhere").refusal(4, "nowhere", "holds no finished run")
    assert not (tmp_path / "several/seed-1").exists()


def test_each_seed_begins_with_its_own_seed_s_weights_and_values(foretell, data, tmp_path):
    values = "--values.updates", 2, "--values.batch-size", 4, "--values.hidden-sizes", 4
    assert foretell("train", data, "--out", "values", "--algorithm", "iql", "--seeds", "0..1", *values).code == 0
    told = *SMALL, "--condition", "advantage", "--values-from", "values"
    assert foretell("train", data, "--out", "first", "--seeds", "0..1", *told).code == 0
    more = *told, "--initial-weights", "first"
    for _ in range(2):  # the second time, all is found finished
        assert foretell("train", data, "--out", "more", "--seeds", "0..1", *more).code == 0
    for seed in (0, 1):
        config = json.loads((tmp_path / f"more/seed-{seed}/config.json").read_text())
        assert config["values_from"] == sha256_of(tmp_path / f"values/seed-{seed}/model.safetensors")
        assert config["initial_weights"] == sha256_of(tmp_path / f"first/seed-{seed}/model.safetensors")
    found = json.loads(foretell("evaluate", "more", "--episodes", 2, "--json").out)
    assert found["evaluations"][0]["seeds"] == [0, 1]
    answer = foretell("train", data, "--out", "third", "--seeds", "1..2", *more)
    assert "values: holds runs of seeds 0, 1; expected one of seed 2 as well" in answer.err
