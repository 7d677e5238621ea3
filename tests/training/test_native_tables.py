"""`Table`: where tensors lie, and whether they still lie there."""

from __future__ import annotations

import pytest
import torch

from foretell.training.native.tables import Table


def test_it_holds_while_the_tensors_lie_where_they_lay():
    tensors = [torch.zeros(3, 2), torch.zeros(5)]
    table = Table(tensors)
    assert table.taken
    assert len(table) == 2
    assert list(table.counts) == [6, 5]
    assert list(table.lie) == [one.data_ptr() for one in tensors]
    tensors[0].add_(1.0)
    assert table.holds(tensors)


@pytest.mark.parametrize("change", [
    lambda tensors: tensors.append(torch.zeros(1)),
    lambda tensors: tensors.pop(),
    lambda tensors: tensors.reverse(),
    lambda tensors: tensors.__setitem__(0, tensors[0].clone()),
    lambda tensors: tensors.__setitem__(0, tensors[0].t()),
    lambda tensors: tensors.__setitem__(1, tensors[1][:4]),
])  # fmt: skip
def test_it_does_not_once_one_is_another(change):
    tensors = [torch.zeros(3, 2), torch.zeros(5)]
    table = Table(tensors)
    change(tensors)
    assert not table.holds(tensors)


@pytest.mark.parametrize("other", [torch.zeros(3).double(), torch.zeros(3, 2).t(), torch.zeros(3, device="meta")])
def test_what_c_cannot_take_is_said(other):
    assert not Table([torch.zeros(2), other]).taken
