"""Value functions of timesteps that were imagined from the data: in units of their own, for a model of the data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from conformance.checks import notices
from foretell import facade
from foretell.core.errors import UsageError
from foretell.datasets.dataset import DatasetMetadata
from foretell.evaluation.configs import PlanningConfig
from foretell.sequences.normalization import Normalization
from foretell.sequences.scaling import ActionRange
from foretell.training.configs import TrainingConfig
from foretell.training.run_folder import load_run
from foretell.values.configs import IQLConfig
from reference.making import make_dataset, scaled, small_config

VALUES = IQLConfig(updates=30, batch_size=8, hidden_sizes=(8, 8))
RANGE = ActionRange(low=(-2.0, -2.0), high=(2.0, 2.0))
GREEDY = PlanningConfig(behaviour="value", beam_width=64, expansion=4)


def _recorded(seed=0):
    return make_dataset([9, 5, 7], seed=seed)


def _imagined(recorded):
    """Wider and elsewhere: in its units a recorded observation is another number."""
    rng = np.random.default_rng(5)
    metadata = DatasetMetadata(algorithm="imagined", hyperparameters={"imagined_from": recorded.fingerprint()})
    return make_dataset(
        [20, 20], seed=3, name="dreams", observations=(rng.normal(size=(40, 3)) * 3 + 1).astype(np.float32),
        metadata=metadata,
    )  # fmt: skip


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    return facade.train_iql(_imagined(_recorded()), tmp_path_factory.mktemp("values") / "iql", values=VALUES,
                            action_range=RANGE)  # fmt: skip


def _train(out, values, recorded=None, limits=RANGE):
    return facade.train(
        recorded or _recorded(), out, algorithm="trajectory-transformer", condition="value", values_from=values,
        model=replace(small_config("trajectory-transformer"), context_length=2, binning="uniform"), acting=GREEDY,
        training=TrainingConfig(updates=3, batch_size=4, evaluate_every=0), action_range=limits,
    )  # fmt: skip


def check_asked_in_their_own_units(values, tmp_path):
    """Of every action the best by Q of the observation itself, as the value functions' own run says it."""
    policy = facade.load_policy(_train(tmp_path / "run", values))
    observations = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32)
    policy.reset(len(observations))
    with torch.inference_mode():
        found = policy.act(observations)
        functions, candidates = policy.functions, torch.cartesian_prod(*2 * [policy.model.discretizer.centers[3]])
        states = functions.inputs(observations)
        q = torch.stack([functions.q(states, one.expand(len(states), -1)).amin(0) for one in candidates])
        taken = functions.q(states, functions.action_inputs(found)).amin(0)
    assert float((q.amax(0) - taken).mean()) < 0.1 * float((q.amax(0) - q.amin(0)).mean())


def test_a_model_of_the_data_asks_functions_of_imagined_timesteps(values, tmp_path):
    check_asked_in_their_own_units(values, tmp_path)


def test_the_models_units_in_their_place_are_noticed(values, tmp_path, monkeypatch):
    monkeypatch.setattr(Normalization, "from_units_of", lambda self, other, observations: observations)
    notices(check_asked_in_their_own_units, values, tmp_path)


def test_the_run_says_whose_functions_they_are(values, tmp_path):
    run = _train(tmp_path / "run", values)
    inside, _ = load_run(run / "values")
    assert inside["dataset"]["name"] == "dreams"
    assert inside["dataset"]["imagined_from"] == load_run(run)[0]["dataset"]["fingerprint"]
    assert "imagined_from" not in load_run(run)[0]["dataset"]


def test_timesteps_imagined_from_other_data_are_other_data(values, tmp_path):
    with pytest.raises(UsageError, match="learned from other data; expected made, or timesteps that were imagined"):
        _train(tmp_path / "run", values, _recorded(seed=1))
    wide = ActionRange(low=(-9.0, -9.0), high=(9.0, 9.0))
    with pytest.raises(UsageError, match=r"other units than are read here \(action_range\)"):
        _train(tmp_path / "run", values, limits=wide)


def test_units_by_hand():
    there, here = scaled(), replace(scaled(), observation_mean=(3.0,), observation_std=(4.0,))
    found = here.from_units_of(there, torch.tensor([[0.0], [1.0]]))  # 1 and 3 of the environment's
    torch.testing.assert_close(found, torch.tensor([[-0.5], [0.0]]))
    same = torch.tensor([[0.3]])
    assert there.from_units_of(replace(there), same) is same
