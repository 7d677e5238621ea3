"""What every test of the C has: a machine that compiles it, and numbers of threads to try."""

from __future__ import annotations

import pytest
import torch

from foretell.models.native.building import native


@pytest.fixture(autouse=True)
def _the_library_is_there():
    assert native() is not None, "no C compiler on this machine"


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)
