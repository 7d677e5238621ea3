"""Numbers as NumPy and networks read them."""

from __future__ import annotations

import numpy as np

from foretell.core.errors import DatasetError, ForetellError

OF_A_TENSOR = "Of a PyTorch tensor, give tensor.detach().cpu().float()."
"""How to mend what NumPy cannot read: a tensor that requires gradients, is bfloat16 or lies on a GPU."""
OF_PAIRS = "All its parts have one shape; of a pair, as env.reset() gives (observation, info), take the first."
"""How to mend lists that NumPy finds no shape for."""
OF_CELLS = "numpy.stack(values) makes them one array."
"""How to mend an array of arrays, as a column of lists in a table of pandas is."""
_SMALLEST = np.finfo(np.float32).smallest_normal


def as_float32(values: np.ndarray) -> np.ndarray:
    """Return these numbers as float32; what it cannot hold becomes infinite, what has no exponent left becomes 0.

    Simulators compute in float64, where what has died away is 1e-41 or so: as float32 that is a denormal number, which
    no instrument measures and processors are slow on. What is float32 already stays as it is.

    >>> as_float32(np.array([0.5, -1e-41, 1e-37]))
    array([5.e-01, 0.e+00, 1.e-37], dtype=float32)
    """
    if values.dtype == np.float32:
        return values
    with np.errstate(over="ignore", under="ignore"):
        found = values.astype(np.float32)
    if values.dtype.kind == "f" and values.dtype.itemsize > 4:
        found[(np.abs(found) < _SMALLEST) & (found != 0)] = 0  # a zero keeps its sign, and files their fingerprints
    return found


def as_array(values: object, what: str, refusal: type[ForetellError] = DatasetError) -> np.ndarray:
    """Return an array, as it lies where it is one.

    Raises `refusal` for lists of different lengths, for arrays within an array, and for what NumPy cannot read, a
    tensor say.
    """
    try:
        found = np.asanyarray(values)
    except ValueError as error:
        raise refusal(f"{what} are no array ({error}); expected one of numbers. {OF_PAIRS}") from None
    except (TypeError, RuntimeError) as error:
        raise refusal(f"{what} are no array ({error}); expected one of numbers. {OF_A_TENSOR}") from None
    if found.dtype == object and found.ndim == 1 and len(found) and isinstance(found[0], np.ndarray | list | tuple):
        raise refusal(f"{what} are a column of arrays, one in each row; expected one of numbers. {OF_CELLS}")
    return found
