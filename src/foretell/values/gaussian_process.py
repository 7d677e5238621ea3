"""Gaussian processes over few timesteps: settings by evidence, and functions drawn from the posterior.

| source | here |
|---|---|
| kernel $k(x, x')$ | `GaussianProcess.kernel` |
| prior deviation of a polynomial's coefficient, learned for each (MacKay 1994; Tipping 2001) | `coefficients` |
| $\\ell_i$, $\\sigma_f$, $\\sigma_n$ (Rasmussen and Williams 2006, Eq. 5.1), logs | `lengths`, `bell`, `noise` |
| $\\log p(y \\mid X)$ (the same, Eq. 2.30) | `evidence_and_slopes` |
| pathwise update (Wilson et al. 2020, Eq. 13) | `PosteriorDraws` |
"""

from __future__ import annotations

import itertools
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foretell.core.errors import DivergedError
from foretell.values.native.bells import sum_of_bells, sum_of_cosines

JITTER = (1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4)
"""Added to the diagonal, in shares of its mean, until the matrix can be factored in float64."""
AT_ONCE = 512
"""Inputs that are answered at a time, lest memory grow with how many there are."""
TOGETHER = 128
"""Inputs whose covariances with all timesteps are stored at a time, where they are: they stay near the processor."""
LOWEST_EXPONENT = -700.0
"""e^-700 is nothing beside what it is added to; of less, and of the subnormal numbers that come of it, a processor is
four times slower."""
LENGTHS, COEFFICIENTS, LOWEST_NOISE = (-2.0, 6.0), (-12.0, 4.0), -10.0
"""Bounds of the logarithms while they are learned; inputs and targets have unit deviation, so e^6 is no dependence and
e^-12 no term. Recorded float32 numbers are good to e^-16; a noise below e^-10 would outrun float64's factorisation."""


class GaussianProcess(nn.Module):
    r"""One Gaussian process a target, over shared inputs: a polynomial of few terms plus a smooth remainder.

    $k(x, x') = \sum_j w_j^2\, \phi_j(x)\, \phi_j(x') + b^2 \exp(-\tfrac12 \sum_i (x_i - x'_i)^2 / \ell_i^2)$

    $\phi_j$ are the products of inputs up to `degree`, each scaled to mean square 1. Every $w_j$ and every $\ell_i$ is
    learned from the evidence, which switches off what the data do not need: what is left goes on beyond the data
    instead of bending back to the mean. Inputs and targets in unit deviations; all float64.
    """

    feature_scale: Tensor

    def __init__(self, inputs: int, targets: int, degree: int):
        super().__init__()
        self.products = _products(inputs, degree)
        features = 1 + sum(len(variables) for _, variables in self.products)
        self.coefficients = _parameter((targets, features), -2.0)
        self.lengths = _parameter((targets, 1, inputs), 1.0)
        self.bell = _parameter((targets, 1, 1), -1.0)
        self.noise = _parameter((targets, 1, 1), -3.0)
        self.register_buffer("feature_scale", torch.ones(features, dtype=torch.float64))

    def scale_features(self, inputs: Float[Tensor, "rows inputs"]) -> None:
        """Divide every product by its root mean square over these rows."""
        self.feature_scale.fill_(1.0)
        scale = self.features(inputs).square().mean(0).sqrt()
        self.feature_scale.copy_(torch.where(scale > 1e-6, scale, 1.0))

    def features(self, inputs: Float[Tensor, "rows inputs"]) -> Float[Tensor, "rows features"]:
        """Return 1, the inputs, their products by two, by three, ... up to `degree`, scaled."""
        columns = [torch.ones_like(inputs[:, :1])]
        for shorter, variables in self.products:
            columns.append(columns[-1][:, shorter] * inputs[:, variables])
        return torch.cat(columns, 1) / self.feature_scale

    def smooth_part(
        self, one: Float[Tensor, "rows inputs"], other: Float[Tensor, "others inputs"], targets: slice = slice(None)
    ) -> Float[Tensor, "targets rows others"]:
        """Return the second term of the kernel.

        Its exponent $2 \\ln b - |a - b|^2 / 2$ is one product: $(a, -a^2/2, 1) \\cdot (b, 1, 2 \\ln b - b^2/2)$.
        """
        return self.smooth_part_of(self.smooth_rows(one, targets), self.smooth_columns(other, targets), targets)

    def smooth_rows(
        self, inputs: Float[Tensor, "rows inputs"], targets: slice = slice(None)
    ) -> Float[Tensor, "targets rows terms"]:
        """Return the left factor of the exponents, $(a, -a^2/2, 1)$."""
        a = inputs / self.lengths[targets].exp()
        return torch.cat([a, -0.5 * a.square().sum(-1, keepdim=True), torch.ones_like(a[..., :1])], -1)

    def smooth_columns(
        self, inputs: Float[Tensor, "others inputs"], targets: slice = slice(None)
    ) -> Float[Tensor, "targets others terms"]:
        """Return the right factor of the exponents, $(b, 1, 2 \\ln b - b^2/2)$."""
        b, height = inputs / self.lengths[targets].exp(), 2 * self.bell[targets]
        return torch.cat([b, torch.ones_like(b[..., :1]), height - 0.5 * b.square().sum(-1, keepdim=True)], -1)

    def smooth_part_of(
        self,
        rows: Float[Tensor, "targets rows terms"],
        columns: Float[Tensor, "targets others terms"],
        targets: slice = slice(None),
        out: Tensor | None = None,
    ) -> Float[Tensor, "targets rows others"]:
        """Return the second term of the kernel, given the factors of its exponents; written to `out` if given."""
        exponents, height = torch.matmul(rows, columns.mT, out=out), 2 * self.bell[targets]
        if exponents.requires_grad:
            return torch.minimum(exponents, height).exp_()
        for of_target, highest in zip(exponents, height.flatten().tolist()):
            of_target.clamp_(LOWEST_EXPONENT, highest)
        return exponents.exp_()

    def kernel(
        self, one: Float[Tensor, "rows inputs"], other: Float[Tensor, "others inputs"], targets: slice = slice(None)
    ) -> Float[Tensor, "targets rows others"]:
        """Return the prior covariance of every target between two sets of inputs."""
        variances = (2 * self.coefficients[targets]).exp()[:, None]
        polynomial = (self.features(one) * variances) @ self.features(other).T
        return polynomial.add_(self.smooth_part(one, other, targets))

    def factor(
        self, inputs: Float[Tensor, "rows inputs"], targets: slice = slice(None)
    ) -> Float[Tensor, "targets rows rows"]:
        """Return the Cholesky factor of the covariance of noisy targets. Raises `DivergedError` where there is none."""
        return self._factored(self.kernel(inputs, inputs, targets), targets)

    def _factored(
        self, kernel: Float[Tensor, "targets rows rows"], targets: slice
    ) -> Float[Tensor, "targets rows rows"]:
        matrix = self._noisy(kernel, targets)
        diagonal = matrix.detach().diagonal(dim1=1, dim2=2)
        recorded = diagonal.clone()
        level = recorded.mean(1, keepdim=True)
        for jitter in JITTER:
            diagonal.copy_(recorded + jitter * level)
            factor, failed = torch.linalg.cholesky_ex(matrix)
            if not bool(failed.any()):
                return factor
        raise DivergedError(
            f"dynamics: a covariance of {matrix.shape[-1]} timesteps cannot be factored; expected finite, distinct "
            "inputs. Run `foretell inspect` on the data, or lower the learning_rate of the dynamics."
        )

    def _noisy(self, matrix: Tensor, targets: slice) -> Tensor:
        """Add the variance of the noise to the diagonal; in place where nothing is learned, for then rows are many."""
        noise = (2 * self.noise[targets]).exp()
        if matrix.requires_grad:
            return matrix + noise * torch.eye(matrix.shape[-1], dtype=matrix.dtype)
        matrix.diagonal(dim1=1, dim2=2).add_(noise[:, :, 0])
        return matrix

    @torch.no_grad()
    def evidence_and_slopes(
        self, inputs: Float[Tensor, "rows inputs"], targets: Float[Tensor, "rows targets"]
    ) -> tuple[Float[Tensor, " targets"], list[Tensor]]:
        r"""Return minus the log density of each target's column under the prior, nats, and its slopes by
        `coefficients`, `lengths`, `bell` and `noise`.

        With $K$ the covariance of the noisy targets and $\alpha = K^{-1} y$, the slope by a setting $\theta$ is
        $\tfrac12 \mathrm{tr}((K^{-1} - \alpha \alpha^\top)\, \partial K / \partial \theta)$ (Rasmussen and Williams
        2006, Eq. 5.9). Written out, it takes a tenth of the time of a graph of rows x rows.
        """
        features, smooth = self.features(inputs), self.smooth_part(inputs, inputs)
        variances, noise = (2 * self.coefficients).exp(), (2 * self.noise[:, 0, 0]).exp()
        factor = self._factored((features * variances[:, None]) @ features.T + smooth, slice(None))
        columns = targets.T[:, :, None]
        solved = torch.cholesky_solve(columns, factor)
        fit = 0.5 * (columns * solved).sum((1, 2))
        found = fit + factor.diagonal(dim1=1, dim2=2).log().sum(1) + 0.5 * len(inputs) * math.log(2 * math.pi)
        slope = (0.5 * torch.cholesky_inverse(factor)).sub_(0.5 * solved @ solved.mT)  # by each covariance
        by_coefficient = 2 * variances * (features * (slope @ features)).sum(1)
        by_noise = 2 * noise * slope.diagonal(dim1=1, dim2=2).sum(1)
        shares, scaled = slope.mul_(smooth), inputs / self.lengths.exp()
        by_length = 2 * (scaled * (shares.sum(2, keepdim=True) * scaled - shares @ scaled)).sum(1, keepdim=True)
        by_bell = 2 * shares.sum((1, 2))
        return found, [by_coefficient, by_length, by_bell[:, None, None], by_noise[:, None, None]]

    @torch.no_grad()
    def keep_in_bounds(self) -> None:
        """Move every setting to the nearest one allowed."""
        self.lengths.clamp_(*LENGTHS)
        self.coefficients.clamp_(*COEFFICIENTS)
        self.noise.clamp_(min=LOWEST_NOISE)


class PosteriorDraws(nn.Module):
    r"""`members` functions drawn from a process's posterior, each of them a whole, fixed function of the input.

    A draw from the prior, a random polynomial plus random cosines (Rahimi and Recht 2007), is corrected so that it
    passes the data: $f(x) + k(x, X) (K + \sigma_n^2 I)^{-1} (y - f(X) - \epsilon)$ (Wilson et al. 2020, Eq. 13).
    Where data are, draws agree; elsewhere they differ as much as the data leave open.
    """

    inputs: Tensor
    columns: Tensor
    corrections: Tensor
    polynomials: Tensor
    waves: Tensor
    amplitudes: Tensor

    @torch.no_grad()
    def __init__(
        self, process: GaussianProcess, inputs: Float[Tensor, "rows inputs"], targets: Float[Tensor, "rows targets"], *,
        members: int, cosines: int, generator: torch.Generator,
    ):  # fmt: skip
        super().__init__()
        self.process = process
        count = targets.shape[1]

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        deviations = process.coefficients.exp()[:, :, None]
        polynomials = normal(*deviations.shape[:2], members) * deviations
        self.register_buffer("inputs", inputs)
        self.register_buffer("columns", process.smooth_columns(inputs).mT.contiguous())
        self._near = inputs.new_empty(1, TOGETHER, len(inputs))  # kept: made anew each time, it would tear the heap
        frequencies = normal(count, cosines, inputs.shape[1]) / process.lengths.exp()
        phases = 2 * math.pi * torch.rand(count, 1, cosines, generator=generator, dtype=torch.float64)
        self.register_buffer("waves", torch.cat([frequencies.mT, phases], 1))
        spread = process.bell.exp() * math.sqrt(2 / cosines)
        self.register_buffer("amplitudes", (normal(count, cosines, members) * spread).mT.contiguous())
        errors = normal(count, len(inputs), members) * process.noise.exp()
        features, corrections = process.features(inputs), []
        for i in range(count):  # one at a time: a covariance is rows x rows
            prior = features @ polynomials[i] + self._cosines(inputs, i)
            left = targets[:, i, None] - prior - errors[i]
            corrections.append(torch.cholesky_solve(left, process.factor(inputs, slice(i, i + 1))[0]))
        corrected = torch.stack(corrections)
        self.register_buffer("corrections", corrected.mT.contiguous())
        self.register_buffer("polynomials", polynomials + deviations.square() * (features.T @ corrected))

    @torch.no_grad()
    def forward(self, inputs: Float[Tensor, "rows inputs"]) -> Float[Tensor, "targets rows members"]:
        """Return every member's answer."""
        return torch.cat([self._answers(some) for some in inputs.split(AT_ONCE)], 1)

    def _answers(self, inputs: Tensor) -> Tensor:
        features = self.process.features(inputs)
        return torch.stack([
            features @ self.polynomials[i] + self._cosines(inputs, i) + self._corrections(inputs, i)
            for i in range(len(self.corrections))
        ])  # fmt: skip

    def _corrections(self, inputs: Tensor, target: int) -> Float[Tensor, "rows members"]:
        r"""Return $k(x, X)\, (K + \sigma_n^2 I)^{-1} (y - f(X) - \epsilon)$, but for the polynomial part of $k$."""
        process, of_target = self.process, slice(target, target + 1)
        rows, highest = process.smooth_rows(inputs, of_target), 2 * float(process.bell[target])
        found = sum_of_bells(rows[0], self.columns[target], self.corrections[target], LOWEST_EXPONENT, highest)
        if found is not None:
            return found
        pieces = [
            process.smooth_part_of(some, self.columns[of_target].mT, of_target, out=self._near[:, : some.shape[1]])[0]
            @ self.corrections[target].T
            for some in rows.split(TOGETHER, 1)
        ]  # fmt: skip
        return torch.cat(pieces)

    def _cosines(self, inputs: Tensor, target: int) -> Float[Tensor, "rows members"]:
        """Return each member's draw of the smooth part: the last of `waves` is the phase."""
        rows = torch.cat([inputs, torch.ones_like(inputs[:, :1])], 1)
        waves, amplitudes = self.waves[target], self.amplitudes[target]
        found = sum_of_cosines(rows, waves, amplitudes)
        return (rows @ waves).cos() @ amplitudes.T if found is None else found


def _products(inputs: int, degree: int) -> list[tuple[Tensor, Tensor]]:
    """For each length of product: which product one shorter, and which input it is multiplied with."""
    tables: list[tuple[Tensor, Tensor]] = []
    shorter: dict[tuple[int, ...], int] = {(): 0}
    for length in range(1, degree + 1):
        found = list(itertools.combinations_with_replacement(range(inputs), length))
        tables.append((torch.tensor([shorter[p[:-1]] for p in found]), torch.tensor([p[-1] for p in found])))
        shorter = {product: place for place, product in enumerate(found)}
    return tables


def _parameter(shape: tuple[int, ...], value: float) -> nn.Parameter:
    return nn.Parameter(torch.full(shape, value, dtype=torch.float64))
