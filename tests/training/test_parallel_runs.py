"""Two processes at one run: the result of one, one writer, one end."""

from __future__ import annotations

import multiprocessing.connection
import os
import signal
import socket
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from foretell import facade
from foretell.cli import main as command_line
from foretell.core.errors import ForetellError, UsageError
from foretell.core.launching import Launch, launch
from foretell.core.locks import folder_lock
from foretell.core.stopping import nothing_to_save
from foretell.training.configs import ComputeConfig, TrainingConfig
from foretell.training.placing import Place
from foretell.training.processes import Processes, _connected
from foretell.training.run_folder import load_run, read_events
from reference.making import make_dataset, small_config

UPDATES = 40
FLAGS = (
    "--context-length", 4, "--width", 16, "--layers", 2, "--heads", 2, "--dropout", 0, "--updates", UPDATES,
    "--batch-size", 7, "--log-every", 1, "--checkpoint-every", 1000, "--threads", 1, "--condition", "none",
)  # fmt: skip


@pytest.fixture(scope="module")
def data(pendulum_random):
    return pendulum_random.path


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "run"
    training = TrainingConfig(updates=UPDATES, batch_size=7, log_every=1)
    return facade.train(data, out, model=small_config("decision-transformer"), training=training, condition="none")


class Pair:
    """Two processes that run the same command as torchrun starts them; what each says goes to a file of its own.

    `places` are the folders that they work in, as on two machines.
    """

    def __init__(self, folder, *arguments, places=(".", ".")):
        self.places = places
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        context = multiprocessing.get_context("fork")  # torch is loaded already
        self.said = [Path(folder) / f"said-{rank}" for rank in (0, 1)]
        words = [str(argument) for argument in arguments]
        self.members = [context.Process(target=self._member, args=(rank, port, words)) for rank in (0, 1)]
        for member in self.members:
            member.start()

    def _member(self, rank, port, words):
        said = os.open(self.said[rank], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        os.chdir(self.places[rank])
        os.environ |= {
            "TORCHELASTIC_RUN_ID": "test", "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank),
            "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
        with open(1, "w", closefd=False) as out, open(2, "w", closefd=False) as err:
            command_line.sys.stdout, command_line.sys.stderr = out, err
            code = command_line.main(words)
        os._exit(code)

    def end(self):
        """Return both exit codes and what each said; as torchrun does, end the other where one has failed."""
        ended = multiprocessing.connection.wait([member.sentinel for member in self.members], 60)
        for member, other in zip(self.members, reversed(self.members), strict=True):
            if member.sentinel in ended:
                member.join()
                if member.exitcode not in (0, 143):
                    other.terminate()
        for member in self.members:
            member.join(60)
        return [member.exitcode for member in self.members], [path.read_text() for path in self.said]


def test_two_processes_stop_together_continue_and_give_the_result_of_one(data, alone, tmp_path):
    out = tmp_path / "run"
    command = ("train", data, "--out", out, *FLAGS)
    pair = Pair(tmp_path, *command)
    while not (out / "events.jsonl").exists():
        time.sleep(0.01)
        assert pair.members[0].is_alive()
    os.kill(pair.members[1].pid, signal.SIGTERM)  # to the one that does not write
    codes, said = pair.end()
    assert codes == [143, 143], said
    assert "stopped by signal 15" in said[0]
    assert said[1] == ""
    (kept,) = (out / "checkpoints").iterdir()
    assert 0 < int(kept.name.removeprefix("update-")) < UPDATES
    codes, said = Pair(tmp_path, *command, "--json").end()
    assert codes == [0, 0], said
    assert said[0].startswith('{"run": ')
    assert said[1] == ""
    (config, found), (_, expected) = load_run(out), load_run(alone)
    assert (config["processes"], config["device"], config["precision"]) == (2, "cpu", "float32")
    for name, value in expected.items():
        limit = 1e-4 if name.endswith("query_key_value.bias") else 1e-6  # moving all keys changes nothing: its gradient
        torch.testing.assert_close(found[name], value, rtol=0.0, atol=limit, msg=name)  # is rounding, which Adam scales
    mine, theirs = ([event["loss"] for event in read_events(run)] for run in (out, alone))
    assert mine == pytest.approx(theirs, rel=1e-5)
    assert len(mine) == UPDATES


def test_two_processes_by_muon_give_the_result_of_one(data, tmp_path):
    """Both step along the same averaged gradients: matrices made orthogonal stay the same in both."""
    codes, said = Pair(tmp_path, "train", data, "--out", tmp_path / "both", *FLAGS, "--optimizer", "muon").end()
    assert codes == [0, 0], said
    training = TrainingConfig(updates=UPDATES, batch_size=7, log_every=1, optimizer="muon")
    alone = facade.train(
        data, tmp_path / "alone", model=small_config("decision-transformer"), training=training, condition="none"
    )
    (_, found), (_, expected) = load_run(tmp_path / "both"), load_run(alone)
    for name, value in expected.items():
        limit = 1e-4 if name.endswith("query_key_value.bias") else 1e-5
        torch.testing.assert_close(found[name], value, rtol=0.0, atol=limit, msg=name)
    mine, theirs = ([event["loss"] for event in read_events(run)] for run in (tmp_path / "both", alone))
    assert mine == pytest.approx(theirs, rel=1e-5)
    assert mine[-1] < 0.9 * mine[0]


def test_what_the_first_process_cannot_do_ends_both(data, tmp_path):
    with folder_lock(tmp_path / "run"):
        codes, said = Pair(tmp_path, "train", data, "--out", tmp_path / "run", *FLAGS).end()
    assert codes == [7, 143]
    assert said[0].count("\n") == 1
    assert "another process is at work" in said[0]
    assert said[1] == ""


def test_what_both_meet_is_said_by_the_first_though_it_comes_later(tmp_path, monkeypatch):
    """torchrun ends the others as soon as one has failed, and what they were about to say was lost."""
    run_verb = command_line.run_verb

    def late(words):
        with nothing_to_save():
            time.sleep(1.0 if launch().speaks else 0.0)
        return run_verb(words)

    monkeypatch.setattr(command_line, "run_verb", late)
    codes, said = Pair(tmp_path, "train", tmp_path / "none.hdf5", "--out", tmp_path / "run", *FLAGS).end()
    assert codes == [3, 143], said
    assert "no such file" in said[0]
    assert said[1] == ""


def test_what_another_process_alone_cannot_do_it_says_itself(data, tmp_path, monkeypatch):
    monkeypatch.setattr(command_line, "PATIENCE", 0.5)
    places = [tmp_path / "first", tmp_path / "second"]
    for place in places:
        place.mkdir()
    (places[0] / "data.hdf5").symlink_to(data)
    pair = Pair(tmp_path, "train", "data.hdf5", "--out", tmp_path / "run", *FLAGS, places=places)
    pair.members[1].join(60)
    codes, said = pair.end()
    assert codes[1] == 3
    assert "data.hdf5: no such file" in said[1]
    assert "no such file" not in said[0]


def test_another_process_need_not_see_the_run_folder(data, tmp_path):
    """As on two machines that share no disk: what lies there is the first process's."""
    places = [tmp_path / "first", tmp_path / "second"]
    for place in places:
        place.mkdir()
        (place / "data.hdf5").symlink_to(data)
    words = ("--condition", "advantage", "--values.updates", 5, "--updates", 5)
    codes, said = Pair(tmp_path, "train", "data.hdf5", "--out", "run", *FLAGS, *words, places=places).end()
    assert codes == [0, 0], said
    assert (places[0] / "run" / "model.safetensors").exists()
    assert not (places[1] / "run").exists()


def test_a_loss_that_is_not_finite_ends_both_with_where_it_was(data, tmp_path):
    wild = (*FLAGS, "--learning-rate", 1e30, "--warmup-updates", 0, "--clip-norm", 1e30)
    codes, said = Pair(tmp_path, "train", data, "--out", tmp_path / "run", *wild).end()
    assert codes == [5, 143]
    assert "update " in said[0]
    assert said[1] == ""


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=r"--device cuda: PyTorch finds no GPU; expected .* --device cpu"):
        Place.of(ComputeConfig(device="cuda"))
    assert Place.of(ComputeConfig(device="auto")).device == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert Place.of(ComputeConfig(device="auto")).device == torch.device("cuda", 0)
    assert Place.of(ComputeConfig(device="cuda:1")).device == torch.device("cuda", 1)
    with pytest.raises(UsageError, match="cuda:0 to cuda:1"):
        Place.of(ComputeConfig(device="cuda:2"))
    first = Processes(Launch(rank=0, count=3, local_rank=0, local_count=3))  # it speaks, so it has to know
    with pytest.raises(UsageError, match="for 3 processes: PyTorch finds GPUs cuda:0 to cuda:1"):
        Place.of(ComputeConfig(device="cuda"), first)
    second = Processes(Launch(rank=3, count=4, local_rank=1, local_count=2))
    assert Place.of(ComputeConfig(device="cuda"), second).device == torch.device("cuda", 1)
    with pytest.raises(UsageError, match="one GPU each"):
        Place.of(ComputeConfig(device="cuda:0"), second)


def test_a_run_on_a_gpu_tells_pytorch_which_and_that_float32_is_meant(monkeypatch):
    chosen, cudnn = [], torch.backends.cudnn
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext(chosen.append(device)))
    with cudnn.flags(enabled=cudnn.enabled, deterministic=False, allow_tf32=True):  # puts back what there was
        with Place(device=torch.device("cpu")).as_meant():
            assert (cudnn.allow_tf32, cudnn.deterministic, chosen) == (True, False, [])
        with Place(device=torch.device("cuda", 1)).as_meant():
            assert (cudnn.allow_tf32, cudnn.deterministic, chosen) == (False, True, [torch.device("cuda", 1)])
        assert (cudnn.allow_tf32, cudnn.deterministic) == (True, False)


def test_the_last_of_several_runs_on_a_gpu_puts_back_what_the_first_found(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    cudnn, place = torch.backends.cudnn, Place(device=torch.device("cuda", 0))
    with cudnn.flags(enabled=cudnn.enabled, deterministic=False, allow_tf32=True):
        first, second = place.as_meant(), place.as_meant()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert (cudnn.allow_tf32, cudnn.deterministic) == (False, True)
        second.__exit__(None, None, None)
        assert (cudnn.allow_tf32, cudnn.deterministic) == (True, False)


def test_memory_that_runs_out_is_not_blamed_on_another_process():
    short = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
    with pytest.raises(torch.OutOfMemoryError), _connected():
        raise short
    with pytest.raises(ForetellError, match="another process of this run has ended"), _connected():
        raise RuntimeError("Connection closed by peer")


@pytest.mark.parametrize("bad", [{"device": "gpu"}, {"device": "cuda:"}, {"device": "cuda:-1"}, {"precision": "half"}])
def test_devices_and_precisions_of_no_meaning_are_refused(bad):
    with pytest.raises(UsageError, match="expected"):
        ComputeConfig(**bad)


def test_what_only_the_cpu_can_train_is_refused_elsewhere(tmp_path):
    rounded = ComputeConfig(precision="bfloat16")
    with pytest.raises(UsageError, match="trajectory-transformer trains on the CPU"):
        facade.train(make_dataset([9]), tmp_path / "run", algorithm="trajectory-transformer", compute=rounded)
    assert not (tmp_path / "run").exists()
    four = Place(device=torch.device("cpu"), processes=Processes(Launch(count=4)))
    with pytest.raises(UsageError, match="batch-size 3 for 4 processes"):
        four.check("mlp", 3)


def test_other_numbers_are_another_run_and_a_run_of_before_is_one_on_the_cpu(tmp_path):
    from foretell.core.checksums import KEY, sealed
    from foretell.core.files import read_json, write_json

    made = {"model": small_config("mlp"), "algorithm": "mlp", "training": TrainingConfig(updates=2, batch_size=2)}
    out = facade.train(make_dataset([9]), tmp_path / "run", **made)
    config = read_json(out / "config.json")
    assert (config["device"], config["precision"], config["processes"]) == ("cpu", "float32", 1)
    with pytest.raises(UsageError, match="precision 'float32' there, 'bfloat16' here"):
        facade.train(make_dataset([9]), out, **made, compute=ComputeConfig(precision="bfloat16"))
    (out / "model.safetensors").unlink()
    old = {key: value for key, value in config.items() if key not in ("device", "precision", "processes", KEY)}
    write_json(out / "config.json", sealed(old))
    (out / "events.jsonl").unlink()
    assert facade.train(make_dataset([9]), out, **made) == out
    with pytest.raises(UsageError, match="precision 'float32' there"):
        facade.train(make_dataset([9]), out, **made, compute=ComputeConfig(precision="bfloat16"))


def test_torchrun_is_known_by_its_own_word(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert launch() == Launch(rank=0, count=1)
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("LOCAL_RANK", "1"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    assert launch() == Launch(rank=1, count=2, local_rank=1, local_count=2)
    assert not launch().speaks


def test_average_weighs_by_timesteps(monkeypatch):
    """Two processes of 3 and 1 timesteps with gradients 2 and 6, losses 1 and 5: together 3 and 2."""
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([2.0, 0.0])
    other = torch.tensor([6.0, 4.0, 5.0, 1.0]) * 1

    def summed(flat):
        np.testing.assert_array_equal(flat, [6.0, 0.0, 3.0, 3.0])
        flat += other

    monkeypatch.setattr(torch.distributed, "all_reduce", summed)
    found = Processes(Launch(count=2)).average([weight], torch.tensor([1.0]), torch.tensor(3))
    assert (weight.grad.tolist(), found.tolist()) == ([3.0, 1.0], [2.0])
