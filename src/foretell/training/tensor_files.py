"""Reading safetensors: each tensor straight into its memory, held by header and file alone.

The library's own reader keeps a file twice in memory, and where that is short it does not return: its panic is no
error, and may not even end.
"""

from __future__ import annotations

import math
import os
from io import BufferedReader
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foretell.core.files import open_file
from foretell.core.strict_json import MAX_JSON_BYTES, parse_json

TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
"""What a header calls the types that runs may hold."""


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a file by name, and its metadata.

    Raises `ValueError` for what is no safetensors file, `OSError` where it cannot be read, `RuntimeError` as PyTorch
    does where memory runs out.
    """
    with open_file(path) as handle:
        left = os.fstat(handle.fileno()).st_size - 8
        length = int.from_bytes(handle.read(8), "little")
        if length > MAX_JSON_BYTES or length > left:
            raise ValueError(f"a header of {length} bytes")
        header = parse_json(handle.read(length).decode("utf-8"))
        if not isinstance(header, dict):
            raise ValueError("a header that is no object")
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict):
            raise ValueError("metadata that are no object")
        places = sorted((_place(name, entry) for name, entry in header.items()), key=lambda place: place[1:3])
        end = 0
        for name, begin, until, kind, shape in places:
            if begin != end or until - begin != math.prod(shape) * kind.itemsize:
                raise ValueError(f"tensor {name:.100} is not where its shape has it")
            end = until
        if end != left - length:
            raise ValueError(f"{left - length} bytes of tensors, of which the header describes {end}")
        return {name: _read(handle, kind, shape) for name, *_, kind, shape in places}, metadata


def _place(name: str, entry: Any) -> tuple[str, int, int, torch.dtype, list[int]]:
    """Return name, first byte, byte behind the last, type and shape. Raises `ValueError` for what is no description."""
    whole = isinstance(entry, dict) and entry.keys() == {"dtype", "shape", "data_offsets"}
    if not whole or not _are_counts(entry["shape"]) or not _are_counts(entry["data_offsets"]):
        raise ValueError(f"tensor {name:.100} is not described by dtype, shape and data_offsets")
    if len(entry["data_offsets"]) != 2 or not isinstance(entry["dtype"], str) or entry["dtype"] not in TYPES:
        raise ValueError(f"tensor {name:.100} is of type {entry['dtype']!r:.20}; expected one of {', '.join(TYPES)}")
    return name, *entry["data_offsets"], TYPES[entry["dtype"]], entry["shape"]


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(one) is int and 0 <= one < 2**63 for one in value)


def _read(handle: BufferedReader, kind: torch.dtype, shape: list[int]) -> Tensor:
    stored = torch.uint8 if kind is torch.bool else kind
    found = torch.empty(shape, dtype=stored)
    if found.numel():
        space = found.reshape(-1).view(torch.uint8).numpy().data
        if handle.readinto(space) != len(space):
            raise ValueError("ends before its last tensor does")
    if kind is torch.bool:
        if bool((found > 1).any()):
            raise ValueError("a truth value that is neither 0 nor 1")
        return found.view(torch.bool)
    return found
