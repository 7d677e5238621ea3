"""Runs of an older Foretell: what they do not say they meant, and numbers that changed since are told of."""

from __future__ import annotations

import re
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest

from foretell import facade
from foretell.core.checksums import KEY, sealed
from foretell.core.errors import UsageError
from foretell.core.files import read_json, write_json
from foretell.core.run_settings import NETWORKS_MEANT, VALUES_MEANT, alike, differences
from foretell.core.versions import NUMERICS
from foretell.training import run_folder
from foretell.training.configs import TrainingConfig
from foretell.values.configs import IQLConfig
from reference.making import make_dataset, small_config

ROOT = Path(__file__).parents[2]
TRAINING = TrainingConfig(updates=4, batch_size=4, warmup_updates=0, checkpoint_every=2)
VALUES = IQLConfig(updates=2, batch_size=4, hidden_sizes=(4,))


def _without(config, keys):
    found = deepcopy(config)
    for key in keys:
        group, name = key.split(".")
        del found[group][name]
    return found


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    folder, data = tmp_path_factory.mktemp("runs"), make_dataset([9, 5])
    runs = {
        name: facade.train(data, folder / name, algorithm=name, model=small_config(name), training=TRAINING)
        for name in NETWORKS_MEANT
    }
    runs["iql"] = facade.train_iql(data, folder / "iql", values=VALUES)
    runs["told"] = facade.train(
        data, folder / "told", model=small_config("decision-transformer"), training=TRAINING, condition="advantage",
        values=VALUES,
    )  # fmt: skip
    return {name: read_json(run / "config.json") for name, run in runs.items()}


def _meant(name):
    network = NETWORKS_MEANT.get("decision-transformer" if name == "told" else name, {})
    return {**network, **(VALUES_MEANT if name in ("iql", "told") else {})}


@pytest.mark.parametrize("name", [*NETWORKS_MEANT, "iql", "told"])
def test_a_setting_that_is_newer_than_a_run_is_what_the_run_meant(name, configs):
    config = configs[name]
    older = _without(config, _meant(name))
    assert older != config
    assert differences(older, config) == differences(config, older) == ""
    assert alike(older, {}) == alike(config, {})
    for key, value in _meant(name).items():
        group, setting = key.split(".")
        assert config[group][setting] == value, "the default is what was meant"
        other = deepcopy(config)
        other[group][setting] = "another"
        assert key in differences(older, other)
        assert alike(older, {}) != alike(other, {})


def test_what_a_run_has_no_place_for_is_not_meant(configs):
    """The checksum of records is that of whole settings: nothing is added to what has them all."""
    whole = {name: alike(config, {}) for name, config in configs.items()}
    assert len(set(whole.values())) == len(whole)
    config = deepcopy(configs["mlp"])
    config["model"]["told"] = False
    assert alike(config, {}) != whole["mlp"]


def test_numerics_are_counted():
    section = (ROOT / "CHANGELOG.md").read_text().split("### Numerics\n")[1].split("\n## ")[0]
    changes = section.split("The committed table")[0]
    assert len(re.findall(r"^- ", changes, re.MULTILINE)) == NUMERICS, "core/versions.py counts them"


@pytest.mark.parametrize("there", ["fewer", None, str(NUMERICS)])
def test_a_run_that_goes_on_after_numbers_changed_says_so(there, tmp_path, recwarn, monkeypatch):
    data = make_dataset([9, 5])

    def stop(done, *_, **__):
        if done == 2:
            raise KeyboardInterrupt

    plain = run_folder.run_versions
    before = {name: value for name, value in plain().items() if name != "numerics" or there}
    monkeypatch.setattr(run_folder, "run_versions", lambda *_: {**before, **({"numerics": there} if there else {})})
    with pytest.raises(KeyboardInterrupt):
        facade.train(
            data, tmp_path / "run", model=small_config("decision-transformer"), training=TRAINING, progress=stop
        )
    monkeypatch.setattr(run_folder, "run_versions", plain)
    copy = shutil.copytree(tmp_path / "run", tmp_path / "copy")
    facade.train(data, copy, model=small_config("decision-transformer"), training=TRAINING)
    said = [str(one.message) for one in recwarn if "continues otherwise" in str(one.message)]
    if there == str(NUMERICS):
        assert not said
    else:
        assert f"numerics fewer there, {NUMERICS} here" in said[0]
        assert "by what CHANGELOG.md says under Numerics" in said[0]


UNVERSIONED = "ignore:.*(Using the latest versioned|episodes of CartPole|newest of several versions)"


def _named_without_a_version(run):
    """Have an unfinished run, without events so far, name CartPole alone, as older ones do."""
    config = read_json(run / "config.json")
    config["environment"]["name"] = "CartPole"
    write_json(run / "config.json", sealed(config))
    for manifest in run.glob("checkpoints/*/manifest.json"):
        write_json(manifest, sealed({**read_json(manifest), "configuration": sealed(config)[KEY]}))


def _of_cartpole(data, out, **changes):
    given = {"model": small_config("mlp"), "training": TRAINING, "environment": "CartPole-v1", **changes}
    return facade.train(data, out, algorithm="mlp", **given)


@pytest.mark.filterwarnings(UNVERSIONED)
def test_a_run_that_names_no_version_goes_on_and_is_evaluated_where_one_is_named(tmp_path, cartpole_random):
    data = replace(cartpole_random, metadata=replace(cartpole_random.metadata, environment="CartPole"))
    run = tmp_path / "run"

    def stop(done, *_, **__):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _of_cartpole(data, run, progress=stop)
    _named_without_a_version(run)
    mend = r"expected CartPole-v1.*\. Where a run or data name it so: --environment CartPole-v1, or in Python "
    with pytest.warns(UserWarning, match=mend), pytest.raises(UsageError, match="name 'CartPole' there"):
        _of_cartpole(data, run, environment=None)
    assert _of_cartpole(data, run) == run
    assert facade.load_policy(run).model.shape.action_dim == 2
    with pytest.raises(UsageError, match=mend + r'environment="CartPole-v1"\.'):
        facade.evaluate(run, episodes=2)
    records = facade.evaluate(run, episodes=2, environment="CartPole-v1")
    assert [one["environment"] for one in records] == ["CartPole-v1"] * 2


@pytest.mark.parametrize(("there", "here", "same"), [
    ("CartPole", "CartPole-v1", True), ("CartPole,a=1", "CartPole-v1,a=1", True), ("CartPole-v1", "CartPole", False),
    ("CartPole-v0", "CartPole-v1", False), ("Cart", "CartPole-v1", False), ("CartPole,a=1", "CartPole-v1", False),
    ("CartPole", "", False),
])  # fmt: skip
def test_a_name_without_a_version_meant_one_that_has_it(there, here, same):
    found = differences({"environment": {"name": there}}, {"environment": {"name": here}})
    assert found == ("" if same else f"environment.name {there!r} there, {here!r} here")


@pytest.mark.parametrize("lacking", ["optimizers", "small_networks"])
def test_libraries_that_are_missing_are_said(lacking, tmp_path, monkeypatch, recwarn):
    """Adam in C adds up otherwise than PyTorch's: a run that goes on without it is another one, by last bits."""
    data = make_dataset([9, 5])

    def stop(done, *_, **__):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        facade.train(
            data, tmp_path / "run", algorithm="mlp", model=small_config("mlp"), training=TRAINING, progress=stop
        )
    assert read_json(tmp_path / "run/config.json")["versions"]["kernels"] == "native"
    monkeypatch.setattr(run_folder, lacking, lambda: None)
    facade.train(data, tmp_path / "run", algorithm="mlp", model=small_config("mlp"), training=TRAINING)
    said = [str(one.message) for one in recwarn if "continues otherwise" in str(one.message)]
    assert "kernels native there, native but for " in said[0]
