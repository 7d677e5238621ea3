from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from benchmarks.floor import Product
from benchmarks.measuring import Options

from benchmarks import gpu


def test_without_a_gpu_there_is_a_sentence_and_no_row(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert list(gpu.rows(Options())) == []
    assert "no GPU" in capsys.readouterr().err


def test_the_work_of_an_update_by_hand():
    """Forward 2 x 3 times 3 x 4, twice: 96 operations and 2 (6 + 12 + 8) = 52 numbers; the backward pass twice more."""
    operations, moved = gpu.work([Product(rows=2, inner=3, columns=4, batch=2)], 2, weights=10)
    assert (operations, moved) == (3 * 96, 2 * 3 * 52 + 4 * 7 * 10)


@pytest.mark.parametrize(("operations_a_second", "bytes_a_second", "expected"), [(1e9, 1e15, 0.5), (1e15, 1e9, 0.25)])
def test_the_roofline_is_the_slower_of_both(monkeypatch, operations_a_second, bytes_a_second, expected):
    monkeypatch.setattr(gpu, "_operations_a_second", lambda device, dtype: operations_a_second)
    monkeypatch.setattr(gpu, "_bytes_a_second", lambda device: bytes_a_second)
    monkeypatch.setattr(gpu, "work", lambda forward, size, weights: (2e9, 2e9 * size))
    place = gpu.Place(device=torch.device("cpu"), precision="bfloat16")
    assert gpu.roofline(place, 1) == pytest.approx(expected)


def test_the_rows_as_they_would_be_measured(monkeypatch, tmp_path):
    """On the CPU in the place of a GPU: whether they can be made, their numbers mean nothing."""
    cpu = torch.device("cpu")
    answers = iter([True])  # the benchmark's own question; PyTorch's optimisers ask as well
    monkeypatch.setattr(torch.cuda, "is_available", lambda: next(answers, False))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "none")
    monkeypatch.setattr(gpu.Place, "of", lambda config: gpu.Place(device=cpu, precision=config.precision))
    monkeypatch.setattr(gpu, "REFERENCE", replace(gpu.REFERENCE, width=8, layers=1, context_length=2))
    monkeypatch.setattr(gpu, "BYTES", {"float32": 4})
    monkeypatch.setattr(gpu, "SEEDS", 3)
    for measured in ("_operations_a_second", "_bytes_a_second"):
        monkeypatch.setattr(gpu, measured, lambda *_: 1e9)

    def placed(place, algorithm, network, sampler, config, seed):
        return gpu.CapturedTraining(network, gpu.ResidentWindows(sampler, cpu), config, seed, place.precision)

    monkeypatch.setattr(gpu, "placed", placed)
    one, several = gpu.rows(Options(quick=True))
    assert (one.name, several.name) == ("width 8, float32", "3 seeds in one program, float32")
    assert several.setting["seeds"] == 3
    for row in (one, several):
        assert row.to_json()["ours"] > 0
        assert row.extra["share_of_roofline"] > 0
