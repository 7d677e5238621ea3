"""Nothing that learns loads PyTorch's compiler: nobody asks for it, and it takes a second of each start."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from foretell.agents.untraced import PlainAdam, Untraced
from foretell.training.clipped_adamw import ClippedAdamW

LEARN = """
import sys
from pathlib import Path
import foretell
from foretell.agents.configs import SACConfig
from foretell.training.configs import TrainingConfig
from foretell.values.configs import DynamicsConfig, IQLConfig
folder, few = Path(sys.argv[1]), {"updates": 2, "batch_size": 4}
data = foretell.collect_random("Pendulum-v1", 400, seed=0, path=folder / "random.hdf5")
for optimizer in ("adamw", "muon"):
    foretell.train(data, folder / optimizer, training=TrainingConfig(optimizer=optimizer, **few))
values = IQLConfig(updates=2, hidden_sizes=(8,))
foretell.train(data, folder / "steered", condition="advantage", values=values, training=TrainingConfig(**few))
foretell.train_sac("Pendulum-v1", folder / "sac", config=SACConfig(total_steps=12, learning_starts=8, batch_size=4))
foretell.collect_imagined(data, folder / "imagined.hdf5", num_steps=10, config=DynamicsConfig(updates=2))
assert "torch" in sys.modules
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""


@pytest.mark.parametrize("native", ["0", "1"])
def test_learning_of_every_kind_loads_no_compiler(native, tmp_path, monkeypatch):
    monkeypatch.setenv("FORETELL_NATIVE", native)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LEARN, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


def _walked(optimizer, parameters, steps):
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for one in parameters:
            one.grad = torch.randn(one.shape, generator=generator)
        optimizer.step()


def test_plain_adam_is_pytorchs_to_the_last_bit_and_each_takes_the_others_state():
    ours = [nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0))) for shape in ((3, 4), ())]
    theirs = copy.deepcopy(ours)
    plain, reference = PlainAdam(ours, lr=1e-2), torch.optim.Adam(theirs, lr=1e-2)
    _walked(plain, ours, 5)
    _walked(reference, theirs, 5)
    plain.load_state_dict(copy.deepcopy(reference.state_dict()))
    reference.load_state_dict(copy.deepcopy(plain.state_dict()))
    _walked(plain, ours, 3)
    _walked(reference, theirs, 3)
    for one, other in zip(ours, theirs):
        assert torch.equal(one, other)
    plain.zero_grad()
    assert all(one.grad is None for one in ours)
    assert all(one.requires_grad for one in ours)


def test_hooks_on_a_step_are_called_as_pytorch_calls_them():
    parameter, called = nn.Parameter(torch.ones(2)), []
    optimizer = PlainAdam([parameter], lr=1e-2)
    optimizer.register_step_post_hook(lambda *_: called.append("after"))
    _walked(optimizer, [parameter], 2)
    assert called == ["after", "after"]


@pytest.mark.parametrize("made", [
    lambda one: PlainAdam(one, lr=1e-2), lambda one: ClippedAdamW(one, learning_rate=1e-2, weight_decay=0.0),
])  # fmt: skip
def test_a_copy_steps_on_from_where_it_was_taken(made):
    parameter = nn.Parameter(torch.ones(3))
    optimizer = made([parameter])
    _walked(optimizer, [parameter], 2)
    copied, follower = copy.deepcopy((parameter, optimizer))
    _walked(optimizer, [parameter], 2)
    _walked(follower, [copied], 2)
    assert torch.equal(parameter, copied)
    assert isinstance(follower, Untraced)


def test_moments_are_made_once_and_in_the_order_of_pytorchs_checkpoints():
    parameter = nn.Parameter(torch.ones(2, 2))
    optimizer, reference = PlainAdam([parameter], lr=1e-2), torch.optim.Adam([copy.deepcopy(parameter)], fused=True)
    for names in (("step", "exp_avg", "exp_avg_sq"), ("momentum",)):
        optimizer.make_moments([parameter], *names)
    _walked(reference, reference.param_groups[0]["params"], 1)
    made, expected = optimizer.state[parameter], next(iter(reference.state.values()))
    assert list(made) == list(expected)
    for name in made:
        assert (made[name].shape, made[name].dtype) == (expected[name].shape, expected[name].dtype)
        assert not made[name].any()
