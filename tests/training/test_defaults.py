"""What a caller has told PyTorch to do by default changes nothing of what Foretell learns and does."""

from __future__ import annotations

import contextlib
import threading

import numpy as np
import pytest
import torch

from foretell import facade
from foretell.agents.networks import EnsembleMLP
from foretell.core.files import sha256_of
from foretell.sequences.defaults import usual_defaults
from foretell.training.configs import TrainingConfig
from foretell.values.configs import IQLConfig
from reference.making import make_dataset, small_config


@contextlib.contextmanager
def _float64():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


CONTEXTS = {
    "float64": _float64,
    "meta": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
}


def _learned(out, algorithm):
    data, training = make_dataset([9, 5]), TrainingConfig(updates=3, batch_size=4)
    if algorithm == "iql":
        facade.train_iql(data, out, values=IQLConfig(updates=3, batch_size=4, hidden_sizes=(8,)))
    else:
        facade.train(data, out, algorithm=algorithm, model=small_config(algorithm), training=training)
    policy = facade.load_policy(out)
    policy.reset(num_envs=2)
    actions = policy.act(np.zeros((2, *data.observation_shape), np.float32))
    return sha256_of(out / "model.safetensors"), np.asarray(actions).tolist()


def test_two_threads_put_the_default_type_back_when_both_have_ended(tmp_path):
    expected = _learned(tmp_path / "plain", "mlp")
    inside, leave = threading.Event(), threading.Event()

    @usual_defaults
    def waits():
        inside.set()
        leave.wait(20)
        return torch.get_default_dtype()

    @usual_defaults
    def outlasts(other):
        leave.set()
        other.join()
        return torch.get_default_dtype(), torch.zeros(1).dtype

    with _float64():
        found = []
        thread = threading.Thread(target=lambda: found.append(waits()))
        thread.start()
        inside.wait()
        assert _learned(tmp_path / "beside", "mlp") == expected
        assert outlasts(thread) == (torch.float32, torch.float32)
        assert found == [torch.float32]
        assert torch.get_default_dtype() is torch.float64


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("algorithm", ["decision-transformer", "mlp", "lstm", "trajectory-transformer", "iql"])
def test_nothing_depends_on_pytorchs_defaults(tmp_path, context, algorithm):
    expected = _learned(tmp_path / "plain", algorithm)
    with CONTEXTS[context]():
        before = torch.get_default_dtype(), torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()
        found = _learned(tmp_path / "other", algorithm)
        assert before == (torch.get_default_dtype(), torch.is_autocast_enabled("cpu"), torch.is_grad_enabled())
    assert found == expected


def test_a_training_that_fails_leaves_no_thread(tmp_path):
    """TensorBoard's would go on writing into a folder that may be removed."""

    def failing(done, *_, **__):
        if done == 2:
            raise ValueError("pruned")

    before = threading.active_count()
    for number in range(3):
        with pytest.raises(ValueError, match="pruned"):
            facade.train(
                make_dataset([9, 5]), tmp_path / str(number), model=small_config("mlp"), algorithm="mlp",
                training=TrainingConfig(updates=4, batch_size=4, log_every=1), progress=failing,
            )  # fmt: skip
    assert threading.active_count() == before


def test_perceptrons_compute_with_the_weights_that_they_have():
    """Also with those that were assigned in the place of others."""
    first, second = (EnsembleMLP(1, (3, 4, 2), torch.Generator().manual_seed(seed)) for seed in (0, 1))
    rows = torch.ones(2, 3)
    first.load_state_dict(second.state_dict(), assign=True)
    torch.testing.assert_close(first(rows), second(rows))
    assert first.layers[0][0] is first.weights[0]
