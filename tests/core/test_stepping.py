"""What is given to a policy is numbers of the right shape, all of them finite, or it is refused in a sentence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from foretell.core.errors import DatasetError, UsageError
from foretell.core.stepping import checked_count, checked_numbers


@pytest.mark.parametrize("found", [-1, 0, 1.5, "2", True, None, np.float64(2.0)], ids=repr)
def test_only_whole_numbers_of_environments_are_counted(found):
    with pytest.raises(UsageError, match="whole number of 1 or more"):
        checked_count(found)


@pytest.mark.parametrize("found", [1, 7, np.int64(3), np.uint8(2)], ids=repr)
def test_whole_numbers_of_any_kind_are_counted(found):
    assert checked_count(found) == int(found)


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ([["a"], ["b"]], UsageError),
        ([[1.0], [2.0, 3.0]], UsageError),
        ([[1.0]], UsageError),
        ([1.0, 2.0], UsageError),
        ([[None], [1.0]], UsageError),
        ([[1j], [1.0]], UsageError),
        ([[0.0], [np.nan]], DatasetError),
        ([[0.0], [-np.inf]], DatasetError),
    ],
    ids=repr,
)
def test_what_is_no_finite_number_of_the_right_shape_is_refused(values, error):
    with pytest.raises(error, match="expected"):
        checked_numbers("rewards", values, (1,), 2)


def test_the_error_names_the_episode():
    with pytest.raises(DatasetError, match="rewards hold inf in episode 2"):
        checked_numbers("rewards", np.array([0.0, 1.0, np.inf]), ())


@pytest.mark.parametrize(
    "values", [[[1.5], [2.0]], np.ones((2, 1), np.float32), np.ones((2, 1), np.uint8), [[True], [False]]], ids=repr
)
def test_numbers_come_back_as_they_are(values):
    np.testing.assert_array_equal(checked_numbers("observations", values, (1,), 2), np.asarray(values))


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(2, requires_grad=True), torch.zeros(2, dtype=torch.bfloat16)],
    ids=["requires grad", "bfloat16"],
)
def test_a_tensor_that_numpy_cannot_read_is_refused_with_what_to_give(tensor):
    with pytest.raises(UsageError, match=r"rewards are no array \(.*\.detach\(\)\.cpu\(\)\.float\(\)"):
        checked_numbers("rewards", tensor, (), 2)
    given = tensor.detach().cpu().float()
    np.testing.assert_array_equal(checked_numbers("rewards", given, (), 2), np.zeros(2, np.float32))
