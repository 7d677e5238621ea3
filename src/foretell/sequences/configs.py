"""Names of choices about sequences; free of torch, so that settings can be shown at once."""

from __future__ import annotations

from typing import Literal

Binning = Literal["quantile", "uniform"]
"""quantile: all bins hold equally many of the data. uniform: all bins are equally wide."""
