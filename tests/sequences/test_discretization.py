"""Numbers as symbols: the round trip, data with atoms, edges that travel with the weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.checks import notices
from foretell.core.errors import UsageError
from foretell.sequences.discretization import Discretizer
from reference.trajectory import encode_slowly

BINNINGS = ("quantile", "uniform")
numbers = st.floats(-1e6, 1e6, width=32)
atoms = st.sampled_from([0.0, -1.0, 0.1, 7.5])
columns = st.lists(st.one_of(numbers, atoms), min_size=1, max_size=60)


def fitted(values, bins, binning):
    """A discretizer of the columns `(rows, dimensions)`."""
    values = np.asarray(values, np.float32)
    found = Discretizer(values.shape[1], bins)
    found.fit(values, binning)
    return found


def slack(edges):
    """What rounding to float32 may add to half a bin."""
    return 1e-6 * np.abs(edges).max() + 1e-30


def check_round_trip(cut, values):
    """What comes back lies in the same bin, at most half its width from what was encoded; symbols are in range."""
    values = np.asarray(values, np.float32)
    symbols = cut.encode(torch.from_numpy(values))
    edges, found = cut.edges.numpy().astype(np.float64), symbols.numpy()
    assert symbols.dtype == torch.int64
    assert symbols.shape == values.shape
    assert found.min() >= 0
    assert found.max() <= cut.bins - 1
    back = cut.decode(symbols).numpy()
    for d in range(values.shape[1]):
        widths = np.diff(edges[d])[found[:, d]]
        inside = np.clip(values[:, d].astype(np.float64), edges[d, 0], edges[d, -1])
        assert (np.abs(back[:, d] - inside) <= widths / 2 + slack(edges[d])).all()
        assert found[:, d].tolist() == [encode_slowly(cut.edges[d].numpy(), value) for value in values[:, d]]


@settings(deadline=None, max_examples=80)
@given(
    first=columns, seed=st.integers(0, 99), bins=st.integers(1, 12), binning=st.sampled_from(BINNINGS),
    strangers=st.lists(numbers, max_size=5),
)  # fmt: skip
def test_round_trip_within_half_a_bin(first, seed, bins, binning, strangers):
    """Of the data, of values outside of them, and beside a column of another kind."""
    other = np.random.default_rng(seed).normal(size=len(first))
    values = np.stack([np.float32(first), other], axis=1)
    cut = fitted(values, bins, binning)
    for d, column in enumerate(np.float32(values).T):
        ends = np.abs(cut.edges[d, [0, -1]].numpy() - [column.min(), column.max()])
        assert (ends <= slack(cut.edges[d].numpy())).all()
    assert (np.diff(cut.edges.numpy(), axis=1) >= 0).all()
    check_round_trip(cut, values)
    check_round_trip(cut, [[value, -value] for value in [0.0, 1e9, -1e9, *strangers]])


@settings(deadline=None, max_examples=80)
@given(data=columns, asked=st.lists(numbers, min_size=2, max_size=30), bins=st.integers(1, 12),
       binning=st.sampled_from(BINNINGS))  # fmt: skip
def test_larger_numbers_have_larger_symbols(data, asked, bins, binning):
    cut = fitted(np.float32(data)[:, None], bins, binning)
    ordered = np.sort(np.float32([*asked, *data]))
    assert (np.diff(cut.encode(torch.from_numpy(ordered[:, None])).numpy()[:, 0]) >= 0).all()


@settings(deadline=None, max_examples=80)
@given(data=columns, bins=st.integers(1, 12), binning=st.sampled_from(BINNINGS))
def test_a_symbol_stands_for_a_number_of_its_own_bin(data, bins, binning):
    cut = fitted(np.float32(data)[:, None], bins, binning)
    symbols = torch.arange(bins)[:, None]
    wide = np.diff(cut.edges[0].numpy().astype(np.float64)) > 4 * slack(cut.edges.numpy())
    again = cut.encode(cut.decode(symbols))
    assert torch.equal(again[wide], symbols[wide])


def check_atoms():
    """A third of the data are 0 and a quarter are 0.1: both come back as they are, and what is beside them does not."""
    rng = np.random.default_rng(0)
    values = np.float32([0.0] * 40 + [0.1] * 30 + rng.normal(size=50).tolist())[:, None]
    cut = fitted(values, 20, "quantile")
    for atom in (0.0, 0.1):
        found = cut.encode(torch.tensor([[atom]]))
        assert cut.decode(found).item() == np.float32(atom)
        beside = cut.encode(torch.tensor([[atom - 1e-3], [atom + 1e-3]]))
        assert beside[0] < found[0]
        assert beside[1] > found[0]
    check_round_trip(cut, values)


def test_an_atom_is_given_back_exactly():
    check_atoms()


@pytest.mark.parametrize("right", [True, False])
def test_atoms_that_share_their_neighbours_bin_are_noticed(right, monkeypatch):
    def plainly(self, values):
        columns = values.movedim(-1, 0).reshape(len(self.edges), -1).contiguous()
        found = torch.searchsorted(self.edges, columns, right=right) - 1
        return found.clamp(0, self.bins - 1).reshape(-1, *values.shape[:-1]).movedim(0, -1)

    monkeypatch.setattr(Discretizer, "encode", plainly)
    notices(check_atoms)


@pytest.mark.parametrize("bins", [5, 6, 100])
def test_few_numbers_have_bins_of_their_own_however_rare_they_are(bins):
    values = np.zeros((10_000, 2), np.float32)
    values[:40, 0], values[40:70, 0] = 1.0, 10.0
    values[:, 1] = np.linspace(-3, 3, 10_000)  # beside a dimension of many
    cut, rare = fitted(values, bins, "quantile"), torch.tensor([[0.0, 0.1], [1.0, 0.1], [10.0, 0.1]])
    assert torch.equal(cut.decode(cut.encode(rare))[:, 0], rare[:, 0])
    between = cut.encode(torch.tensor([[0.4, 0.0], [-1.0, 0.0], [4.0, 0.0], [99.0, 0.0]]))[:, 0]
    assert cut.decode(torch.stack([between, between], 1))[:, 0].tolist() == [0.5, 0.0, 5.5, 10.0]
    assert torch.equal(cut.edges[1], fitted(values[:, 1:], bins, "quantile").edges[0])


def test_more_numbers_than_there_is_room_for_are_cut_by_quantiles():
    values = np.repeat(np.arange(4.0), [70, 10, 10, 10])[:, None]
    edges = fitted(values, 6, "quantile").edges[0]
    np.testing.assert_allclose(edges, np.quantile(values, np.linspace(0, 1, 7)))


@pytest.mark.parametrize("binning", BINNINGS)
@pytest.mark.parametrize("rows", [1, 5])
def test_a_column_of_one_number_is_that_number(binning, rows):
    cut = fitted([[3.25, 0.1]] * rows, 6, binning)
    asked = torch.tensor([[3.25, 0.1], [-9.0, -9.0], [9.0, 9.0]])
    torch.testing.assert_close(cut.decode(cut.encode(asked)), torch.tensor([[3.25, 0.1]] * 3), rtol=0, atol=0)
    symbols = cut.encode(asked)
    assert (symbols[1] <= symbols[0]).all()
    assert (symbols[0] <= symbols[2]).all()


def test_quantiles_by_hand():
    """Five numbers, four bins: every number is an edge; the middle of the first bin is 0.5."""
    cut = fitted([[0.0], [1.0], [10.0], [100.0], [1000.0]], 4, "quantile")
    assert cut.edges.tolist() == [[0.0, 1.0, 10.0, 100.0, 1000.0]]
    assert cut.centers.tolist() == [[0.5, 5.5, 55.0, 550.0]]
    asked = torch.tensor([[-5.0], [0.0], [0.99], [1.0], [99.0], [100.0], [1000.0], [2000.0]])
    assert cut.encode(asked).flatten().tolist() == [0, 0, 0, 1, 2, 3, 3, 3]


def test_even_bins_by_hand():
    cut = fitted([[0.0, -2.0], [8.0, 2.0], [1.0, 0.0]], 4, "uniform")
    assert cut.edges.tolist() == [[0.0, 2.0, 4.0, 6.0, 8.0], [-2.0, -1.0, 0.0, 1.0, 2.0]]
    assert cut.decode(torch.tensor([[0, 3], [3, 0]])).tolist() == [[1.0, 1.5], [7.0, -1.5]]


def test_every_quantile_holds_as_many():
    values = np.random.default_rng(1).exponential(size=(1000, 1))
    counts = np.bincount(fitted(values, 10, "quantile").encode(torch.from_numpy(np.float32(values)))[:, 0])
    assert (np.abs(counts - 100) <= 1).all()
    assert np.bincount(fitted(values, 10, "uniform").encode(torch.from_numpy(np.float32(values)))[:, 0]).max() > 300


def test_before_it_is_fitted_the_bins_are_even():
    cut = Discretizer(2, 4)
    assert cut.edges.tolist() == [[-1.0, -0.5, 0.0, 0.5, 1.0]] * 2
    assert (cut.bins, cut.centers.shape) == (4, (2, 4))


@pytest.mark.parametrize("size", [(2,), (5, 2), (3, 4, 2), (0, 2)], ids=str)
def test_any_number_of_axes(size):
    """Each dimension, the last axis, by its own edges."""
    cut = fitted(np.random.default_rng(0).normal(size=(50, 2)) * [1, 100], 5, "quantile")
    values = torch.from_numpy(np.random.default_rng(1).normal(size=size).astype(np.float32) * np.float32([1, 100]))
    symbols = cut.encode(values)
    assert symbols.shape == cut.decode(symbols).shape == values.shape
    flat = [[encode_slowly(cut.edges[d].numpy(), row[d]) for d in (0, 1)] for row in values.reshape(-1, 2).numpy()]
    assert symbols.reshape(-1, 2).tolist() == flat


def test_edges_travel_with_the_weights():
    cut = fitted(np.random.default_rng(0).normal(size=(50, 3)), 5, "quantile")
    assert set(cut.state_dict()) == {"edges"}
    other = Discretizer(3, 5)
    other.load_state_dict(cut.state_dict())
    values = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(other.encode(values), cut.encode(values))
    assert torch.equal(other.centers, cut.centers)
    assert not list(cut.parameters())


def test_an_unknown_binning_is_refused():
    with pytest.raises(UsageError, match="'even'; expected one of quantile, uniform"):
        Discretizer(1, 3).fit(np.zeros((2, 1)), "even")
