"""Files of tensors: what safetensors writes is read to the bit, what it would not write is refused."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save, save_file

from foretell.core.errors import CheckpointError
from foretell.training.checkpoints import load_tensors, save_tensors
from foretell.training.tensor_files import TYPES, read_safetensors

kinds = st.sampled_from(sorted(TYPES))
shapes = st.lists(st.integers(0, 4), max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=5), st.tuples(kinds, shapes), max_size=5), st.integers(0, 99))
def test_what_safetensors_writes_is_read_to_the_bit(described, seed):
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: (9 * torch.randn(shape, generator=generator, dtype=torch.float64)).to(TYPES[kind])
        for name, (kind, shape) in described.items()
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.safetensors"
        save_file(tensors, path, {"a": "b"})
        found, metadata = read_safetensors(path)
        expected = load_file(path)
    assert metadata == {"a": "b"}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
        assert torch.equal(found[name], value) or bool(value.isnan().any())


def written(path, header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(("header", "body", "said"), [
    ({"a": ONE}, b"12345678", None),
    ({"a": ONE}, b"1234567", "7 bytes of tensors, of which the header describes 8"),
    ({"a": ONE}, b"123456789", "9 bytes of tensors"),
    ({"a": {**ONE, "shape": [3]}}, b"12345678", "not where its shape has it"),
    ({"a": {**ONE, "shape": [10**30, 0, 1]}}, b"12345678", "not described"),
    ({"a": {**ONE, "shape": [0, 10**30], "data_offsets": [0, 0]}}, b"", "not described"),
    ({"a": {**ONE, "shape": [-2]}}, b"", "not described"),
    ({"a": {**ONE, "shape": [2.0]}}, b"12345678", "not described"),
    ({"a": {**ONE, "data_offsets": [0]}}, b"12345678", "of type"),
    ({"a": {**ONE, "dtype": "F4"}}, b"12345678", "of type 'F4'; expected one of F64"),
    ({"a": {**ONE, "dtype": ["F32"]}}, b"12345678", "of type"),
    ({"a": {**ONE, "more": 1}}, b"12345678", "not described"),
    ({"a": ONE, "b": ONE}, b"12345678", "tensor b is not where"),
    ({"a": []}, b"", "not described"),
    ([], b"", "no object"),
    ({"__metadata__": 3}, b"", "metadata that are no object"), (b"{", b"", "Expecting|expecting|Unterminated"),
    ({"a": {**ONE, "dtype": "BOOL", "data_offsets": [0, 2]}}, b"\x01\x02", "neither 0 nor 1"),
    (b"x" * (1 << 21), b"", "a header of 2097152 bytes"),
])  # fmt: skip
def test_other_files_are_refused(header, body, said, tmp_path):
    path = written(tmp_path / "a.safetensors", header, body)
    if said is None:
        assert read_safetensors(path)[0]["a"].shape == (2,)
        return
    with pytest.raises(ValueError, match=said):
        read_safetensors(path)
    with pytest.raises(CheckpointError, match=r"a\.safetensors: cannot be read"):
        load_tensors(path)


def test_a_large_file_is_not_read_before_its_header_is(tmp_path):
    path = tmp_path / "a.safetensors"
    with open(path, "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_tensors(path)
    path.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(CheckpointError, match=r"a header of .* bytes"):
        load_tensors(path)
    save_file({"a": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match="no checksum of Foretell's"):
        load_tensors(path)


def test_weights_that_are_not_finite_are_refused_by_name(tmp_path, monkeypatch):
    with monkeypatch.context() as without:
        without.setattr("foretell.training.checkpoints.torch.isfinite", lambda tensor: torch.ones(1, dtype=bool))
        save_tensors(tmp_path / "a.safetensors", {"fine": torch.ones(2), "spoilt": torch.tensor([1.0, float("nan")])})
    with pytest.raises(CheckpointError, match=r"a\.safetensors: spoilt is not finite"):
        load_tensors(tmp_path / "a.safetensors")


def test_where_memory_is_short_it_is_said(tmp_path):
    """The library's own reader panicked, or never came back."""
    path = tmp_path / "a.safetensors"
    path.write_bytes(save({str(i): torch.ones(1 << 20) for i in range(40)}))
    code = (
        "import resource, sys, torch; from pathlib import Path\n"
        "from foretell.training.tensor_files import read_safetensors\n"
        "size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize() + int(sys.argv[2]) * 2**20\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size, size))\n"
        "try: read_safetensors(Path(sys.argv[1])); print('read')\n"
        "except RuntimeError as error: print('allocate' in str(error))\n"
    )
    found = []
    for room in (40, 100, 150, 400):
        done = subprocess.run(
            [sys.executable, "-c", code, str(path), str(room)], capture_output=True, text=True, timeout=60, check=False
        )
        found.append(done.stdout.strip())
    assert found == ["True", "True", "True", "read"]
