"""Reference scores of a dataset: kept, read from Minari, on the card, with runs and in reports."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import foretell
from foretell.core.errors import UsageError
from foretell.core.run_forms import read_config
from foretell.datasets.card import dataset_card
from foretell.datasets.metadata import DatasetMetadata
from foretell.reporting.comparison import build_comparison
from foretell.reporting.run_results import read_results
from reference.making import small_config

ENDS = (-2000.0, -1000.0)
TRAINING = foretell.TrainingConfig(updates=2, batch_size=4, warmup_updates=1)


def with_ends(dataset, ends=ENDS):
    return replace(dataset, metadata=replace(dataset.metadata, reference_scores=ends))


def trained(dataset, out, **changes):
    return foretell.train(dataset, out, model=small_config("decision-transformer"), training=TRAINING, **changes)


def test_a_file_keeps_them(pendulum_random, tmp_path):
    foretell.write_dataset(tmp_path / "a.hdf5", with_ends(pendulum_random))
    found = foretell.open_dataset(tmp_path / "a.hdf5")
    assert found.metadata.reference_scores == ENDS
    assert found.fingerprint() == pendulum_random.fingerprint()
    foretell.write_dataset(tmp_path / "b.hdf5", pendulum_random)
    assert foretell.open_dataset(tmp_path / "b.hdf5").metadata.reference_scores is None


@pytest.mark.parametrize("ends", [(1.0,), (2.0, 1.0), (1.0, 1.0), (0.0, np.nan), (0.0, np.inf), "ab", ("a", "b"), 3.0])
def test_other_than_two_numbers_apart_are_refused(ends):
    with pytest.raises(UsageError, match="metadata: reference_scores"):
        DatasetMetadata(reference_scores=ends)


def test_a_list_or_an_array_is_a_pair():
    assert DatasetMetadata(reference_scores=[1, 2]).reference_scores == (1.0, 2.0)
    assert DatasetMetadata(reference_scores=np.array([1, 2])).reference_scores == (1.0, 2.0)


def test_what_another_program_keeps_there_stays_as_it_is(pendulum_random, tmp_path):
    theirs = replace(pendulum_random.metadata, extra={"reference_scores": np.array([3.0, 1.0])})
    foretell.write_dataset(tmp_path / "a.hdf5", replace(pendulum_random, metadata=theirs))
    found = foretell.open_dataset(tmp_path / "a.hdf5").metadata
    assert found.reference_scores is None
    assert found.extra["reference_scores"].tolist() == [3.0, 1.0]


def test_the_card_takes_them_before_the_task_table(pendulum_random):
    mean = pendulum_random.episode_returns().mean()
    assert dataset_card(with_ends(pendulum_random))["normalized_score"] == pytest.approx((mean + 2000) / 10)
    unnamed = with_ends(replace(pendulum_random, metadata=DatasetMetadata()))
    assert dataset_card(unnamed)["normalized_score"] == pytest.approx((mean + 2000) / 10)


def test_datasets_that_agree_keep_them(pendulum_random):
    one, other = with_ends(pendulum_random), with_ends(pendulum_random, (-2000.0, -999.0))
    assert foretell.concatenate([one, one], name="all").metadata.reference_scores == ENDS
    assert foretell.concatenate([one, other], name="all").metadata.reference_scores is None
    assert foretell.select_episodes(one, [1, 2]).metadata.reference_scores == ENDS


@pytest.mark.usefixtures("minari_storage")
@pytest.mark.filterwarnings("ignore::UserWarning:minari")
class TestMinari:
    def test_theirs_are_read(self, pendulum_random):
        minari = pytest.importorskip("minari")
        from minari.data_collector import EpisodeBuffer

        buffers = [
            EpisodeBuffer(**{
                name: getattr(one, name)
                for name in ("observations", "actions", "rewards", "terminations", "truncations")
            })
            for one in pendulum_random.episodes()
        ]  # fmt: skip
        minari.create_dataset_from_buffers(
            "others/pendulum-v0", buffers, env="Pendulum-v1", ref_min_score=-2000, ref_max_score=-1000
        )
        found = foretell.open_dataset("minari:others/pendulum-v0")
        assert found.metadata.reference_scores == ENDS
        theirs = minari.get_normalized_score(minari.load_dataset("others/pendulum-v0"), found.episode_returns())
        assert dataset_card(found)["normalized_score"] == pytest.approx(100 * theirs.mean())
        minari.create_dataset_from_buffers("others/plain-v0", buffers, env="Pendulum-v1")
        assert foretell.open_dataset("minari:others/plain-v0").metadata.reference_scores is None

    def test_what_was_a_float32_is_written_as_one(self, pendulum_random):
        minari = pytest.importorskip("minari")
        foretell.write_minari(pendulum_random, "mine/pendulum-v0")
        path = minari.storage.datasets_root_dir.get_dataset_path("mine/pendulum-v0") / "data" / "metadata.json"
        stored = json.loads(path.read_text())
        del stored["foretell"]
        path.write_text(json.dumps(stored | {"ref_min_score": 21.200000762939453, "ref_max_score": 155.12345678901}))
        found = foretell.open_dataset("minari:mine/pendulum-v0")
        assert found.metadata.reference_scores == (21.2, 155.12345678901)

    def test_there_and_back(self, pendulum_random):
        minari = pytest.importorskip("minari")
        foretell.write_minari(with_ends(pendulum_random), "mine/pendulum-v0")
        assert foretell.open_dataset("minari:mine/pendulum-v0").metadata.reference_scores == ENDS
        assert minari.get_normalized_score(minari.load_dataset("mine/pendulum-v0"), np.array([-1500.0])) == [0.5]

    @pytest.mark.parametrize("ends", [("a", 1.0), (2.0, 1.0), (None, 1.0), (float("nan"), 1.0), ([1.0], 2.0)])
    def test_what_are_no_two_numbers_apart_is_passed_over(self, pendulum_random, ends):
        minari = pytest.importorskip("minari")
        foretell.write_minari(pendulum_random, "mine/pendulum-v0")
        path = minari.storage.datasets_root_dir.get_dataset_path("mine/pendulum-v0") / "data" / "metadata.json"
        stored = json.loads(path.read_text())
        del stored["foretell"]
        stored |= dict(zip(("ref_min_score", "ref_max_score"), ends, strict=True))
        path.write_text(json.dumps(stored))
        assert foretell.open_dataset("minari:mine/pendulum-v0").metadata.reference_scores is None


@pytest.fixture
def runs(pendulum_random, tmp_path):
    """A run on data with reference scores, and one on data without."""
    found = [trained(with_ends(pendulum_random), tmp_path / "scored"), trained(pendulum_random, tmp_path / "plain")]
    for run in found:
        foretell.evaluate(run, episodes=2, out=run / "evaluations.jsonl")
    return found


def test_reports_take_those_of_the_data(runs):
    table = build_comparison(read_results(runs))
    assert (table["protocol"]["random_score"], table["protocol"]["expert_score"]) == ENDS
    for row in table["rows"]:
        assert row["normalized_score"] == pytest.approx((row["mean_return"] + 2000) / 10)
    given = build_comparison(read_results(runs), references=(-3000.0, 0.0))["protocol"]
    assert (given["random_score"], given["expert_score"]) == (-3000.0, 0.0)
    sources = [table["protocol"]["scores_from"], given["scores_from"]]
    assert sources == ["reference scores of the data", "given by --references"]
    alone = build_comparison(read_results(runs[1:]))["protocol"]
    assert alone["random_score"] == -1230.5
    assert "dynamic programming" in alone["scores_from"]


def test_the_page_does_not_call_them_the_table_s(runs, tmp_path):
    foretell.write_comparison(runs, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "random -2000 is 0, expert -1000 is 100; reference scores of the data" in page


def test_data_that_differ_are_told_of(runs, pendulum_random, tmp_path):
    other = trained(with_ends(pendulum_random, (-2000.0, 0.0)), tmp_path / "other")
    foretell.evaluate(other, episodes=2, out=other / "evaluations.jsonl")
    with pytest.warns(UserWarning, match=r"different reference scores \(-2000 to -1000, -2000 to 0\)"):
        found = build_comparison(read_results([*runs, other]))["protocol"]
    assert found["random_score"] == -1230.5


def test_elsewhere_they_do_not_count(runs, tmp_path):
    foretell.evaluate(
        runs[0], environment="Pendulum-v1,g=5", episodes=2, out=tmp_path / "light.jsonl", name="light"
    )  # fmt: skip
    foretell.evaluate(runs[0], environment="Pendulum-v1,g=5", episodes=2, out=runs[0] / "evaluations.jsonl")
    found = build_comparison(read_results(runs[:1]), "Pendulum-v1,g=5")
    assert found["protocol"]["random_score"] is None


def test_a_run_goes_on_where_they_were_added(pendulum_random, tmp_path):
    run = trained(pendulum_random, tmp_path / "run")
    assert "reference_scores" not in read_config(run / "config.json", whole=True)["dataset"]
    weights = (run / "model.safetensors").read_bytes()
    assert trained(with_ends(pendulum_random), tmp_path / "run") == run
    assert (run / "model.safetensors").read_bytes() == weights


def test_what_is_imagined_from_data_has_theirs(pendulum_random, tmp_path):
    config = foretell.DynamicsConfig(members=2, degree=1)
    found = foretell.collect_imagined(with_ends(pendulum_random), tmp_path / "a.hdf5", num_steps=10, config=config)
    assert found.metadata.reference_scores == ENDS


def test_a_recording_of_the_run_has_them(runs, tmp_path):
    same = foretell.collect_policy(runs[0], tmp_path / "a.hdf5", num_steps=10)
    other = foretell.collect_policy(runs[0], tmp_path / "b.hdf5", num_steps=10, environment="Pendulum-v1,g=5")
    assert (same.metadata.reference_scores, other.metadata.reference_scores) == (ENDS, None)
