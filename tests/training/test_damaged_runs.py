"""A run folder after damage, a death or a mix-up: it continues from what is good, or says what is not."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch

from foretell.core.errors import CheckpointError
from foretell.core.run_forms import read_config
from foretell.core.temporaries import make_temporary
from foretell.training import checkpoints
from foretell.training.checkpoints import load_newest, load_tensors, save_checkpoint, save_tensors
from foretell.training.run_folder import RunFolder, load_run, read_events


def _state(value):
    return {"weight": torch.full((50,), float(value)), "count": torch.tensor(value)}


def _save(folder, *updates):
    return [save_checkpoint(folder, update, _state(update), {"events": 0}) for update in updates]


def _flip(path, place=-1):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def _run(path, *, seed=0, updates=3):
    run = RunFolder(path, {"kind": "sequence", "seed": seed})
    for update in range(1, updates + 1):
        run.event("training", {"update": update})
        run.checkpoint(update, _state(seed + update))
    return run


def test_a_start_that_died_before_it_let_go_of_an_old_checkpoint_leaves_it_to_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "let_go", lambda folder, update: None)
    _run(tmp_path, updates=5)
    monkeypatch.undo()
    assert len(list((tmp_path / "checkpoints").iterdir())) == 5
    (tmp_path / "checkpoints" / "update-000000000001" / "state.safetensors").unlink()  # it had begun
    _flip(tmp_path / "checkpoints" / "update-000000000005" / "state.safetensors")
    assert RunFolder(tmp_path, {"kind": "sequence", "seed": 0}).resume()[1] == 4
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == [f"update-{update:012d}" for update in (2, 3, 4, 5)]  # what does not verify is not counted


@pytest.mark.parametrize("name", ["config.json", "events.jsonl", "model.safetensors"])
def test_what_a_start_left_that_died_in_the_middle_of_a_file_is_taken_away(name, tmp_path):
    """Before its configuration was written, too: the next start writes one, and takes such a file away itself."""
    handle, left = make_temporary(tmp_path / name)
    os.close(handle)
    RunFolder(tmp_path, {"kind": "sequence", "seed": 0})
    assert os.listdir(tmp_path) == ["config.json"]
    handle, left = make_temporary(tmp_path / name)
    os.close(handle)
    RunFolder(tmp_path, {"kind": "sequence", "seed": 0})
    assert not left.exists()


def test_what_safetensors_left_that_died_while_it_wrote_is_taken_away(tmp_path):
    _run(tmp_path)
    for name in (".tmpAGMcJi", ".tmp", "tmpAGMcJi", ".tmpAGMcJi.txt"):
        (tmp_path / name).touch()
    RunFolder(tmp_path, {"kind": "sequence", "seed": 0})
    assert {path.name for path in tmp_path.glob("*tmp*")} == {".tmp", "tmpAGMcJi", ".tmpAGMcJi.txt"}


def _finished(path, seed=0):
    _run(path, seed=seed).finish(_state(seed))
    return path


def test_tensors_know_their_owner_and_every_byte(tmp_path):
    path = tmp_path / "model.safetensors"
    save_tensors(path, {**_state(1), "half": torch.ones(3, dtype=torch.bfloat16), "none": torch.ones(0)}, "mine")
    found = load_tensors(path, "mine")
    assert {name: (value.dtype, tuple(value.shape)) for name, value in found.items()} == {
        "weight": (torch.float32, (50,)), "count": (torch.int64, ()), "half": (torch.bfloat16, (3,)),
        "none": (torch.float32, (0,)),
    }  # fmt: skip
    assert load_tensors(path).keys() == found.keys()
    with pytest.raises(CheckpointError, match="another configuration"):
        load_tensors(path, "theirs")
    again = path.read_bytes()
    save_tensors(path, {**_state(1), "half": torch.ones(3, dtype=torch.bfloat16), "none": torch.ones(0)}, "mine")
    assert path.read_bytes() == again
    for old, new in ((b'"weight"', b'"height"'), (b'"BF16"', b'"F16" '), (b"mine", b"mime"), (b"[50]", b"[ 50")):
        assert again.count(old) == 1
        path.write_bytes(again.replace(old, new))
        with pytest.raises(CheckpointError, match="model"):
            load_tensors(path, "mine")


def test_safetensors_that_nobody_sealed_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file(_state(1), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model\.safetensors: cannot be read"):
        load_tensors(tmp_path / "model.safetensors")


def _weights(run):
    return load_tensors(run / "model.safetensors", read_config(run / "config.json")["checksum"])


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "events.jsonl"])
def test_a_file_of_another_run_is_refused(tmp_path, file):
    mine, theirs = _finished(tmp_path / "mine"), _finished(tmp_path / "theirs", seed=1)
    assert _weights(mine)["count"] == 0
    shutil.copy(theirs / file, mine / file)
    with pytest.raises(CheckpointError):
        read_events(mine) if file == "events.jsonl" else _weights(mine)


def test_a_changed_digit_of_the_configuration_is_refused(tmp_path):
    run = _finished(tmp_path / "run")
    text = (run / "config.json").read_text()
    (run / "config.json").write_text(text.replace('"seed": 0', '"seed": 1'))
    for read in (lambda: load_run(run), lambda: RunFolder(run, {"kind": "sequence", "seed": 1})):
        with pytest.raises(CheckpointError, match=r"config\.json.*checksum"):
            read()


def test_damaged_weights_do_not_count_as_finished(tmp_path):
    run = _finished(tmp_path / "run")
    assert RunFolder(run, {"kind": "sequence", "seed": 0}).finished
    _flip(run / "model.safetensors")
    with pytest.raises(CheckpointError, match="continues from the last checkpoint"):
        _ = RunFolder(run, {"kind": "sequence", "seed": 0}).finished
    (run / "model.safetensors").unlink()
    again = RunFolder(run, {"kind": "sequence", "seed": 0})
    assert not again.finished
    assert again.resume()[1] == 3


def test_checkpoints_of_another_run_and_in_another_place_are_passed_over(tmp_path):
    _run(tmp_path / "mine", updates=2)
    _run(tmp_path / "theirs", seed=1, updates=3)
    folder = tmp_path / "mine" / "checkpoints"
    shutil.copytree(tmp_path / "theirs" / "checkpoints" / f"update-{3:012d}", folder / f"update-{3:012d}")
    shutil.copytree(folder / f"update-{1:012d}", folder / f"update-{4:012d}")
    state, update = RunFolder(tmp_path / "mine", {"kind": "sequence", "seed": 0}).resume()
    assert (update, state["count"].item()) == (2, 2)


def test_a_changed_digit_of_a_manifest_is_refused(tmp_path):
    old, new = _save(tmp_path, 1, 2)
    manifest = json.loads((new / "manifest.json").read_text())
    (new / "manifest.json").write_text(json.dumps({**manifest, "events": 7}))
    assert load_newest(tmp_path)[1]["update"] == 1
    _flip(old / "state.safetensors")
    with pytest.raises(CheckpointError, match="no checkpoint verifies"):
        load_newest(tmp_path)


def test_whole_tensors_of_another_checkpoint_are_noticed(tmp_path):
    """Their own checksum fits; the manifest says that they are others."""
    old, new = _save(tmp_path, 1, 2)
    shutil.copy(old / "state.safetensors", new / "state.safetensors")
    assert load_newest(tmp_path)[1]["update"] == 1
    shutil.rmtree(old)
    with pytest.raises(CheckpointError, match="does not match its manifest"):
        load_newest(tmp_path)


def test_a_checkpoint_that_does_not_read_back_lets_none_go(tmp_path, monkeypatch):
    """A disk that keeps other bytes than it was given."""
    _save(tmp_path, 1, 2, 3)
    monkeypatch.setattr("foretell.training.checkpoints.flush", lambda folder: _flip(
        max(folder.glob("update-*")) / "state.safetensors"
    ))  # fmt: skip
    with pytest.raises(CheckpointError, match="checksum does not fit"):
        _save(tmp_path, 4)
    assert load_newest(tmp_path)[1]["update"] == 3
    assert len(list(tmp_path.glob("update-*"))) == 4


def test_events_are_on_the_disk_before_a_checkpoint_counts_them(tmp_path, monkeypatch):
    run = _run(tmp_path / "run", updates=1)
    run.event("training", {"update": 2})
    events = (tmp_path / "run" / "events.jsonl").stat().st_ino
    flushed, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (flushed.append(os.fstat(handle).st_ino), real(handle)))
    run.checkpoint(2, _state(2))
    manifest = (tmp_path / "run" / "checkpoints" / f"update-{2:012d}" / "manifest.json").stat().st_ino
    assert flushed.index(events) < flushed.index(manifest)


def test_saving_again_leaves_what_is_good_and_replaces_what_is_not(tmp_path):
    (path,) = _save(tmp_path, 1)
    inode = path.stat().st_ino
    assert _save(tmp_path, 1) == [path]
    assert path.stat().st_ino == inode
    with pytest.raises(CheckpointError, match="another state"):
        save_checkpoint(tmp_path, 1, _state(5), {})
    assert load_newest(tmp_path)[0]["count"] == 1
    _flip(path / "state.safetensors")
    _save(tmp_path, 1)
    assert path.stat().st_ino != inode
    assert load_newest(tmp_path)[0]["count"] == 1


def test_damaged_later_checkpoints_do_not_push_out_good_ones(tmp_path):
    """As after three of four were damaged, and a stop soon after the start that continued from the first."""
    for path in _save(tmp_path, 100, 200, 300, 400)[1:]:
        _flip(path / "state.safetensors")
    _save(tmp_path, 150)
    assert load_newest(tmp_path)[1]["update"] == 150


def test_what_a_death_left_is_cleared_away(tmp_path):
    folder = tmp_path / "run"
    (folder).mkdir()
    (folder / ".config.json.abc.json").write_text('{"kind"')  # dead while the very first file was written
    _run(folder, updates=1)
    for name in (".events.jsonl.x.jsonl", ".model.safetensors.y.safetensors", ".replay.hdf5.z.hdf5"):
        (folder / name).write_bytes(b"half")
    (folder / "checkpoints" / ".building-000000000002").mkdir()
    (folder / ".mine").write_text("not ours")
    run = RunFolder(folder, {"kind": "sequence", "seed": 0})
    assert run.resume()[1] == 1
    run.checkpoint(3, _state(3))
    hidden = {path.name for path in folder.rglob(".*")}
    assert hidden == {".mine"}


def test_damage_behind_the_events_that_a_checkpoint_counted_does_not_matter(tmp_path):
    run = _run(tmp_path / "run", updates=2)
    run.event("training", {"update": 3})
    events = tmp_path / "run" / "events.jsonl"
    events.write_bytes(events.read_bytes()[:-10] + bytes(10))
    again = RunFolder(tmp_path / "run", {"kind": "sequence", "seed": 0})
    assert again.resume()[1] == 2
    again.event("training", {"update": 3})
    assert [event["update"] for event in read_events(tmp_path / "run")] == [1, 2, 3]
    _flip(events, 10)
    with pytest.raises(CheckpointError, match=r"events\.jsonl"):
        RunFolder(tmp_path / "run", {"kind": "sequence", "seed": 0}).resume()


def test_a_manifest_is_written_once_all_else_is_there(tmp_path, monkeypatch):
    """Whatever order the disk keeps, a folder without its manifest is none."""
    (path,) = _save(tmp_path, 1)
    os.unlink(path / "manifest.json")
    with pytest.raises(CheckpointError, match=r"manifest\.json"):
        load_newest(tmp_path)
