"""An experiment as a list of commands: complete, in order, and the whole truth about the settings."""

from __future__ import annotations

import multiprocessing
import queue
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from cli_helpers import contents, parse

from conformance.checks import notices
from foretell.cli import jobs as module
from foretell.cli.collect import Collect
from foretell.cli.evaluate import Evaluate
from foretell.cli.experiment_run import ExperimentRun
from foretell.cli.inspect import Inspect
from foretell.cli.jobs import Job, _Dispatcher, run_jobs
from foretell.cli.train import Train
from foretell.core.errors import DatasetError, UsageError
from foretell.presets.pendulum import PRESETS, quick

EXPERIMENTS = {name: make() for name, make in PRESETS.items()}
EXPERIMENTS["pendulum, quick"] = quick(EXPERIMENTS["pendulum"])
CASES = [(name, league) for name in EXPERIMENTS for league in (False, True)]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}{', league' * case[1]}")
def run(request):
    name, league = request.param
    return ExperimentRun(EXPERIMENTS[name], Path("/nowhere/a folder"), [0, 3], root_seed=7, league=league)


@pytest.fixture
def experiment(run):
    return run.experiment


@pytest.fixture
def jobs(run):
    return list(run.jobs())


def test_every_job_comes_after_those_it_needs(jobs):
    names = [job.name for job in jobs]
    assert len(set(names)) == len(names)
    for position, job in enumerate(jobs):
        assert set(job.after) <= set(names[:position]), job.name


def _reads_and_writes(verb):
    """The artefacts that a verb reads, and those that show that it is done."""
    match verb:
        case Collect():
            return {verb.agent, verb.source}, (verb.out, verb.out.with_suffix(".request.json"))
        case Inspect():
            return {verb.dataset}, (verb.card,)
        case Train():
            return {verb.dataset, verb.values_from}, (verb.out / "model.safetensors",)
        case Evaluate():
            return {verb.policy} - {"random", "optimum"}, (verb.out,)


def test_what_a_job_reads_is_made_by_a_job_before_it(jobs):
    made_by: dict[str, str] = {}
    for job in jobs:
        reads, writes = _reads_and_writes(parse(job.arguments))
        assert writes == job.done_when, job.name
        for artefact in reads - {None}:
            assert made_by[str(artefact)] in job.after, job.name
        verb = parse(job.arguments)
        if isinstance(verb, Collect | Train):
            made_by[str(verb.out)] = job.name


def test_a_printed_command_carries_every_setting(run, jobs, experiment):
    verbs = [parse(shlex.split(shlex.join(job.arguments))) for job in jobs]
    trained = [verb for verb in verbs if isinstance(verb, Train)]
    assert [verb.sac for verb in trained if verb.algorithm == "sac"] == [experiment.sac]
    found = {(verb.out.parent.name, verb.seed): verb for verb in trained if verb.algorithm != "sac"}
    shared = {}
    for seed in (0, 3):
        for entry in run.entries:
            verb, lesson, method = found.pop((entry.policy, seed)), entry.lesson, entry.method
            settings = (verb.algorithm, verb.best_share, verb.root_seed)
            assert settings == (method.algorithm, method.best_share, 7)
            if method.algorithm == "iql":
                assert verb.values == lesson.values
                continue
            assert (verb.condition, verb.training) == (method.condition, lesson.training)
            assert (verb.settings[method.algorithm], verb.validation_episodes) == (
                lesson.model, experiment.validation_episodes,
            )  # fmt: skip
            assert (Path(verb.dataset).parent.name == "imagined") == bool(lesson.imagined)
            assert bool(verb.values_from) == bool(lesson.imagined or method.condition in ("value", "advantage"))
            if verb.values_from:
                usual = experiment.method("iql").lessons[entry.dataset.name].values
                needed = f"{entry.dataset.name}.{'imagined-iql' if lesson.imagined else 'iql'}"
                needed = needed if lesson.values in (None, usual) else f"{entry.policy}.values"
                assert verb.values_from.parts[-2:] == (needed, f"seed-{seed}")
                shared[needed] = lesson.values or usual
    for (policy, seed), verb in found.items():  # value functions that others need
        assert verb.algorithm == "iql", (policy, seed)
        assert verb.values == shared[policy]
    imagined = [verb for verb in verbs if isinstance(verb, Collect) and verb.recipe == "imagined"]
    assert len(imagined) == 2 * len({entry.dataset.name for entry in run.entries if entry.lesson.imagined})
    assert {verb.seed for verb in imagined} <= {0, 3}
    assert {verb.root_seed for verb in verbs if isinstance(verb, Evaluate)} == {7}


def test_all_policies_are_evaluated_from_the_same_starts(run, jobs, experiment):
    verbs = [parse(job.arguments) for job in jobs]
    scored = [verb for verb in verbs if isinstance(verb, Evaluate) and not verb.target_returns]
    assert len(scored) == 2 + run.league + 2 * len(run.entries)
    assert {(verb.episodes, verb.root_seed) for verb in scored} == {(experiment.evaluation_episodes, 7)}


def test_jobs_run_in_order_and_what_is_done_is_left(tmp_path):
    data, card = tmp_path / "data.hdf5", tmp_path / "card.json"
    jobs = [
        Job(name="inspect", arguments=("inspect", str(data), "--card", str(card)), after=("collect",),
            done_when=(card,), weight=9.0),
        Job(name="collect", arguments=("collect", "random", "--steps", "200", "--out", str(data)), done_when=(data,)),
    ]  # fmt: skip
    run_jobs(jobs, 2, quiet=True)
    before = contents(tmp_path)
    assert {"data.hdf5", "card.json"} <= before.keys()
    written = card.stat().st_mtime_ns
    run_jobs(jobs, 2, quiet=True)
    assert contents(tmp_path) == before
    assert card.stat().st_mtime_ns == written


CHAINS = [
    Job(name="heavy", arguments=(), weight=5.0),
    Job(name="first", arguments=(), weight=2.0),
    Job(name="then", arguments=(), weight=2.0, after=("first",)),
    Job(name="other", arguments=(), weight=1.0, after=("first",)),
    Job(name="last", arguments=(), weight=2.0, after=("then", "other")),
]


def check_the_longest_chain_goes_first():
    """One worker at a time: a chain of light jobs that is longer together than the heavy one begins before it."""
    assert module.work_ahead(CHAINS) == {"heavy": 5.0, "first": 6.0, "then": 4.0, "other": 3.0, "last": 2.0}
    requests, messages = [queue.SimpleQueue()], queue.Queue()
    living = SimpleNamespace(is_alive=lambda: True)
    dispatcher = _Dispatcher(CHAINS, set(), list(CHAINS), requests, messages, [living], quiet=True)
    seen = []
    while dispatcher.waiting:
        dispatcher._hand_out()
        seen.append(requests[0].get()[0])
        messages.put((seen[-1], "done", None))
        dispatcher._listen()
    assert seen == ["first", "heavy", "then", "other", "last"]


def test_the_longest_chain_goes_first():
    check_the_longest_chain_goes_first()


def test_the_heaviest_first_is_noticed(monkeypatch):
    monkeypatch.setattr(module, "work_ahead", lambda given: {job.name: job.weight for job in given})
    notices(check_the_longest_chain_goes_first)


def test_jobs_of_one_kin_go_to_one_worker_while_there_are_others():
    given = [Job(name=name, arguments=(), kin=name[0], weight=weight) for name, weight in
             (("a0", 9.0), ("a1", 8.0), ("a2", 7.0), ("b0", 2.0), ("b1", 1.0))]  # fmt: skip
    requests, messages = [queue.SimpleQueue(), queue.SimpleQueue()], queue.Queue()
    living = SimpleNamespace(is_alive=lambda: True)
    dispatcher = _Dispatcher(given, set(), list(given), requests, messages, [living, living], quiet=True)
    seen = []
    for ended in ("b0", "b1", "a0", "a1", "a2"):
        dispatcher._hand_out()
        seen.append([None if one.empty() else one.get()[0] for one in requests])
        messages.put((ended, "done", None))
        dispatcher._listen()
    # when b1 is done nothing but worker 0's kin is left, and worker 1 does not wait for it
    assert seen == [["a0", "b0"], [None, "b1"], [None, "a1"], ["a2", None], [None, None]]
    assert dispatcher.done == {job.name for job in given}


JOB = """
from foretell.cli.jobs import Job, run_jobs
if __name__ == "__main__":
    words = ("collect", "random", "--steps", "200", "--out", "data.hdf5")
    run_jobs([Job(name="collect", arguments=words)], 1, quiet=True)
"""


def test_no_process_imports_what_lies_in_the_folder_that_one_works_in(tmp_path):
    """It may be a stranger's: what Python starts with `-c` would take the folder's files for its own modules."""
    script = tmp_path / "elsewhere" / "job.py"
    script.parent.mkdir()
    script.write_text(JOB)
    (folder := tmp_path / "downloaded").mkdir()
    for name in ("struct", "signal", "selectors"):  # of a worker, and of what looks after semaphores
        (folder / f"{name}.py").write_text(f"open('{name}-was-run', 'w')")
    ended = subprocess.run([sys.executable, str(script)], cwd=folder, capture_output=True, text=True, check=False)
    assert not [*folder.glob("*-was-run")]
    assert ended.returncode == 0, ended.stderr
    assert (folder / "data.hdf5").exists()


def test_a_failed_job_ends_the_work_with_its_own_error(tmp_path):
    missing = tmp_path / "none.hdf5"
    jobs = [
        Job(name="first", arguments=("inspect", str(missing))),
        Job(name="second", arguments=("collect", "random", "--out", str(missing)), after=("first",)),
    ]
    with pytest.raises(DatasetError, match=r"first: .*no such file"):
        run_jobs(jobs, 1, quiet=True)
    assert not missing.exists()


def _work_unheard(*arguments):
    """Body of a worker on a system where nobody hears of being ended."""
    module.system.ENDS_ARE_HEARD = False
    module._work(*arguments)


def test_where_ends_are_not_heard_a_worker_saves_when_it_is_told(tmp_path, pendulum_random):
    context = multiprocessing.get_context("spawn")
    requests, messages, enough = context.SimpleQueue(), context.Queue(), context.Semaphore(0)
    worker = context.Process(target=_work_unheard, args=(requests, messages, enough), daemon=True)
    worker.start()
    train = "train", str(pendulum_random.path), "--out", str(tmp_path / "run"), "--updates", "1000000", "--width", "8"
    requests.put(("train", (*train, "--context-length", "2", "--layers", "1", "--checkpoint-every", "1000000")))
    while messages.get(timeout=100)[1] != "progress" or not (tmp_path / "run" / "config.json").exists():
        pass
    enough.release()
    worker.join(60)
    assert worker.exitcode == 0
    assert list((tmp_path / "run" / "checkpoints").glob("update-*"))


def test_more_seeds_extend_an_experiment_and_other_settings_do_not(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("foretell.cli.experiment_run.run_jobs", lambda jobs, *_, **__: asked.append(len(jobs)))
    folder, experiment = tmp_path / "experiment", EXPERIMENTS["pendulum"]
    ExperimentRun(experiment, folder, range(1), 0).execute(1)
    ExperimentRun(experiment, folder, range(2), 0).execute(1)
    plain, told = len(experiment.datasets), 0  # train, evaluate, ask
    for entry in experiment.entries(league=False):
        if entry.method.condition == "advantage":
            told += 3 + bool(entry.lesson.imagined)  # imagine, if so; value functions; train; evaluate
    assert asked[1] - asked[0] == 3 * plain + told
    with pytest.raises(UsageError, match="another experiment"):
        ExperimentRun(replace(experiment, asked_episodes=7), folder, range(1), 0).execute(1)
