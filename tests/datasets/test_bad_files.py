"""Every file that cannot be used is refused in one sentence that names file and key."""

from __future__ import annotations

import contextlib

import h5py
import numpy as np
import pytest

from foretell.core.errors import DatasetError, UsageError
from foretell.datasets.d4rl import read_d4rl
from foretell.datasets.doctor import diagnose
from foretell.datasets.registry import open_dataset


def refused(path, message):
    with pytest.raises(DatasetError, match=message) as caught:
        read_d4rl(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


def test_missing_empty_foreign_and_truncated_files(tmp_path, foreign):
    refused(tmp_path / "none.hdf5", "no such file")
    refused(tmp_path, "no such file")
    (tmp_path / "empty.hdf5").write_bytes(b"")
    refused(tmp_path / "empty.hdf5", "the file is empty")
    (tmp_path / "text.hdf5").write_text("observations\n" * 100)
    refused(tmp_path / "text.hdf5", "not an HDF5 file")
    whole = foreign().read_bytes()
    for keep in (len(whole) - 1, len(whole) // 2, 600, 20):
        (tmp_path / "cut.hdf5").write_bytes(whole[:keep])
        refused(tmp_path / "cut.hdf5", "cut short|cannot be read")


def test_damage_anywhere_is_an_error_or_harmless(tmp_path, foreign):
    """A byte flipped anywhere never ends in another exception than ours."""
    whole = foreign().read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged.hdf5"
    for place in rng.integers(8, len(whole), size=150):
        damaged = bytearray(whole)
        damaged[place] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        with contextlib.suppress(DatasetError):
            diagnose(read_d4rl(path))


@pytest.mark.parametrize("key", ["observations", "actions", "rewards", "terminals"])
def test_missing_key(foreign, key):
    refused(foreign(**{key: None}), f"key '{key}' is missing")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"observations": np.zeros(5, np.float32)}, r"'observations' has shape \(5,\)"),
        ({"actions": np.zeros((5, 1, 2), np.float32)}, r"'actions' has shape \(5, 1, 2\)"),
        ({"actions": np.zeros((5, 0), np.float32)}, r"'actions' has shape \(5, 0\)"),
        ({"rewards": np.zeros((5, 2))}, r"'rewards' has shape \(5, 2\)"),
        ({"terminals": np.zeros((5, 2), bool)}, r"'terminals' has shape \(5, 2\)"),
        ({"rewards": np.float32(3)}, "'rewards' is a single value"),
        ({"rewards": np.array([b"a"] * 5)}, r"'rewards' has type \|S1"),
        ({"observations": np.zeros((5, 2), np.complex64)}, "'observations' has type complex64"),
        ({"rewards": np.zeros(4)}, "'rewards' has 4 rows, 'observations' has 5"),
        ({"timeouts": np.zeros(6, bool)}, "'timeouts' has 6 rows"),
        ({"next_observations": np.zeros((4, 2))}, "'next_observations' has 4 rows"),
        ({"infos__qpos": np.zeros((3, 1))}, "'infos/qpos' has 3 rows"),
        ({"infos__qpos": np.float32(1)}, "'infos/qpos' has 0 rows"),
    ],
)
def test_wrong_ranks_and_lengths(foreign, changed, message):
    refused(foreign(**changed), message)


def test_next_observations_of_another_shape(foreign):
    with pytest.raises(DatasetError, match=r"'next_observations' has shape \(5, 3\)"):
        read_d4rl(foreign(next_observations=np.zeros((5, 3), np.float32)))


def test_no_timesteps(foreign):
    nothing = np.zeros((0, 2), np.float32)
    flags = np.zeros(0, bool)
    path = foreign(
        observations=nothing, next_observations=nothing, actions=nothing, rewards=flags, terminals=flags, timeouts=flags
    )
    refused(path, "0 timesteps; expected at least 1")


@pytest.mark.parametrize(
    ("key", "value", "place"),
    [
        ("observations", np.nan, "episode 1, timestep 0"),
        ("actions", np.inf, "episode 1, timestep 0"),
        ("rewards", -np.inf, "episode 1, timestep 0"),
        ("next_observations", np.nan, "episode 1, timestep 0"),
    ],
)
def test_values_that_are_not_finite_are_named(foreign, key, value, place):
    good = {k: np.array(v) for k, v in read_d4rl(foreign("good.hdf5")).columns().items()}[key]
    good[3] = value
    dataset = read_d4rl(foreign(**{key: good}))  # opening looks at structure alone
    assert f"{key} holds {value} at {place}" in diagnose(dataset)[0].message


@pytest.mark.parametrize("value", [np.nan, 0.5, 2, -1, np.inf])
@pytest.mark.parametrize("key", ["terminals", "timeouts"])
def test_a_flag_is_0_or_1(foreign, key, value):
    refused(foreign(**{key: np.array([0, 0, 1, value, value])}), f"'{key}' holds {value:g} in row 3; expected flags")


def test_too_large_for_float32_is_infinite(foreign):
    dataset = read_d4rl(foreign(rewards=np.array([0, 1e300, 0, 0, 0])))
    assert "rewards holds inf at episode 0, timestep 1" in diagnose(dataset)[0].message


def replace_rewards(path, make):
    with h5py.File(path, "a") as file:
        del file["rewards"]
        make(file)
    return path


def test_links_are_refused(foreign):
    def soft(file):
        file["rewards"] = h5py.SoftLink("/observations")

    def external(file):
        file["rewards"] = h5py.ExternalLink("/etc/passwd", "/x")

    refused(replace_rewards(foreign("a.hdf5"), soft), r"'rewards' is a link \(SoftLink\)")
    refused(replace_rewards(foreign("b.hdf5"), external), r"'rewards' is a link \(ExternalLink\)")


def test_data_in_other_files_are_refused(foreign, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(20))

    def external(file):
        file.create_dataset("rewards", (5,), "<f4", external=[(str(secret), 0, 20)])

    def virtual(file):
        layout = h5py.VirtualLayout((5,), "<f4")
        layout[:] = h5py.VirtualSource(str(foreign("other.hdf5")), "rewards", (5,))
        file.create_virtual_dataset("rewards", layout)

    for name, make in (("a.hdf5", external), ("b.hdf5", virtual)):
        refused(replace_rewards(foreign(name), make), "'rewards' lies in other files")


def test_objects_are_refused(foreign):
    def objects(file):
        file.create_dataset("rewards", (5,), h5py.ref_dtype)

    def texts(file):
        file.create_dataset("rewards", data=["a"] * 5, dtype=h5py.string_dtype())

    for name, make in (("a.hdf5", objects), ("b.hdf5", texts)):
        refused(replace_rewards(foreign(name), make), r"'rewards' has type object \(objects\)")


def test_a_named_type_is_refused(foreign):
    path = foreign()
    with h5py.File(path, "a") as file:
        file["infos/kind"] = np.dtype("<f4")
    refused(path, "'infos/kind' is a Datatype")


def test_sizes_that_the_file_does_not_hold_are_refused(foreign):
    def unwritten(file):
        file.create_dataset("rewards", (10**9,), "<f4")

    def bomb(file):
        file.create_dataset("rewards", (10**9,), "<f4", chunks=(10**6,), compression="gzip")

    refused(replace_rewards(foreign("a.hdf5"), unwritten), "arrays of 4000000... bytes are declared")
    refused(replace_rewards(foreign("b.hdf5"), bomb), "compressed arrays unpack to 4000000000 bytes")


def test_groups_that_hold_themselves_end(foreign):
    path = foreign()
    with h5py.File(path, "a") as file:
        group = file.create_group("g")
        for name in "abcd":
            group[name] = group
    refused(path, "'g/[abcd]' is the same object as 'g'")


def test_names_that_are_no_dataset():
    with pytest.raises(UsageError, match=r"expected a path that ends in .hdf5 or .h5, or minari:ID"):
        open_dataset("pendulum.csv")
    with pytest.raises(DatasetError, match="no such file"):
        open_dataset("absent.h5")
