from __future__ import annotations

import json
import os

import pytest
import torch

from foretell.agents.untraced import load_optimizer_tensors, optimizer_tensors
from foretell.core.errors import CheckpointError, DivergedError
from foretell.training import checkpoints
from foretell.training.checkpoints import (
    load_newest,
    load_tensors,
    save_checkpoint,
    save_tensors,
)


def _save(folder, *updates):
    return [save_checkpoint(folder, update, {"weight": torch.full((50,), float(update))}, {}) for update in updates]


def _newest(folder):
    state, manifest = load_newest(folder)
    assert state["weight"].tolist() == [float(manifest["update"])] * 50
    return manifest["update"]


def test_the_newest_is_loaded_and_three_are_kept(tmp_path):
    assert load_newest(tmp_path) is None
    _save(tmp_path, 9, 10, 100, 1000, 10000)
    assert _newest(tmp_path) == 10000
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"update-{u:012d}" for u in (100, 1000, 10000)]


def _cut_tensors(path):
    file = path / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-40])


def _flip_a_bit(path):
    file = path / "state.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def _no_tensors(path):
    (path / "state.safetensors").unlink()


def _no_manifest(path):
    (path / "manifest.json").unlink()


def _empty_manifest(path):
    (path / "manifest.json").write_text("")


def _manifest_of_another_kind(path):
    (path / "manifest.json").write_text("[]")


DAMAGES = [_cut_tensors, _flip_a_bit, _no_tensors, _no_manifest, _empty_manifest, _manifest_of_another_kind]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_gives_way_to_an_older_one(damage, tmp_path):
    paths = _save(tmp_path, 1, 2, 3)
    damage(paths[2])
    assert _newest(tmp_path) == 2
    damage(paths[1])
    assert _newest(tmp_path) == 1
    damage(paths[0])
    with pytest.raises(CheckpointError, match="no checkpoint verifies"):
        load_newest(tmp_path)


def test_values_that_are_not_finite_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_tensors(path, {"weight": torch.ones(2)})
    for bad in (torch.nan, torch.inf):
        with pytest.raises(DivergedError, match="bias"):
            save_tensors(path, {"weight": torch.zeros(2), "bias": torch.tensor([0.0, bad])})
    assert load_tensors(path)["weight"].tolist() == [1.0, 1.0]
    _save(tmp_path / "checkpoints", 1)
    with pytest.raises(DivergedError):
        save_checkpoint(tmp_path / "checkpoints", 2, {"weight": torch.full((50,), torch.nan)}, {})
    assert _newest(tmp_path / "checkpoints") == 1


def test_a_crash_while_writing_leaves_the_older_one(tmp_path, monkeypatch):
    _save(tmp_path, 1)

    def crash(*_, **__):
        raise KeyboardInterrupt

    for function in ("write_json", "save_file"):
        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, function, crash)
            with pytest.raises(KeyboardInterrupt):
                _save(tmp_path, 2)
        assert _newest(tmp_path) == 1
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", crash)
        with pytest.raises(KeyboardInterrupt):
            _save(tmp_path, 2)
    assert _newest(tmp_path) == 1
    _save(tmp_path, 2)
    assert _newest(tmp_path) == 2
    assert not list(tmp_path.glob(".building*"))


def test_missing_or_foreign_files_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="nothing"):
        load_tensors(tmp_path / "nothing.safetensors")
    (tmp_path / "text.safetensors").write_text("not tensors")
    with pytest.raises(CheckpointError, match="text"):
        load_tensors(tmp_path / "text.safetensors")


def test_optimizer_state_survives_bit_for_bit(tmp_path):
    def make():
        parameter = torch.nn.Parameter(torch.linspace(-1, 1, 5))
        return parameter, torch.optim.AdamW([parameter], lr=0.1, fused=True)

    def step(parameter, optimizer):
        parameter.grad = (parameter.detach() ** 2 + 0.3).clone()
        optimizer.step()

    parameter, optimizer = make()
    for _ in range(3):
        step(parameter, optimizer)
    save_tensors(tmp_path / "o.safetensors", optimizer_tensors("o", optimizer))
    other, restored = make()
    with torch.no_grad():
        other.copy_(parameter)
    load_optimizer_tensors("o", restored, load_tensors(tmp_path / "o.safetensors"))
    for _ in range(3):
        step(parameter, optimizer)
        step(other, restored)
    assert torch.equal(parameter, other)


def test_manifest_says_what_the_tensors_are(tmp_path):
    path = save_checkpoint(tmp_path, 5, {"weight": torch.ones(3)}, {"events": [], "wall_seconds": 1.5})
    manifest = json.loads((path / "manifest.json").read_text())
    assert (manifest["update"], manifest["wall_seconds"]) == (5, 1.5)
    assert manifest["bytes"] == (path / "state.safetensors").stat().st_size
