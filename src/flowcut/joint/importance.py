r"""Importance weights: from labelings of a model q to the law p = exp(-E) / Z, with honest errors.

With alpha_1 ... alpha_M ~ q and w_k = exp(-E(alpha_k)) / q(alpha_k):

    E_q[w] = sum_alpha exp(-E) = Z          so that log Z ~ log mean w
    E_q[w f] / E_q[w] = E_p[f]              so that E_p[f] ~ sum w_k f_k / sum w_k
    E_q[-log w] = KL(q || p) - log Z        so that the mean of E + log q is a free energy >= -log Z

*Errors*, to first order in the fluctuation of means (delta method), with v_k = w_k / sum w:

    log mean w      changes by  w / E w - 1                 variance  M/(M-1) sum (v_k - 1/M)^2
    sum v f         changes by  (w / E w) (f - E_p f)       variance  M/(M-1) sum v_k^2 (f_k - sum v f)^2
    KL              changes by  w / E w - 1 - (log w - E log w)

The first is 1 / ESS - 1 / M (up to the factor), with Kish's effective sample size ESS = 1 / sum v_k^2.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from flowcut.core.checks import check_finite, check_floating
from flowcut.core.results import NotConvergedError, OnFailure
from flowcut.core.warnings import FlowcutWarning
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.estimate import Estimate, mean_estimate
from flowcut.joint.pareto import pareto_shape

# Entries of (labelings, pixels) read at once for marginals.
_BLOCK = 2**22
_HEAVY_TAIL = 0.7


@dataclass(frozen=True, eq=False)
class Importance:
    """What a weighted sample says about the law of an energy; made by :func:`importance`.

    Attributes
    ----------
    labels
        (M, *spatial): the sample.
    num_labels
        J.
    log_weights
        (M,) float64: -E - log q.
    weights
        (M,) float64, >= 0, sum 1.
    log_z
        log Z; too low by about half its squared standard error on average.
    free_energy
        Mean of E + log q, above -log Z by KL(q || p).
    kl
        KL(q || p) = free energy + log Z, >= 0.
    effective_sample_size
        Kish's, 1 to M.
    pareto_k
        Tail index of the weights, see :func:`flowcut.joint.pareto.pareto_shape`; nan where the sample is too
        small to tell, -inf where the weights have no tail.

    Examples
    --------
    >>> energy = PottsEnergy(torch.zeros(1, 2, 2), torch.tensor([[[1.0, 0.0]]]))
    >>> every = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    >>> found = importance(energy, every, torch.full((4,), 0.25).log())
    >>> round(float(found.log_z.value), 4)  # log(2 + 2 / e)
    1.0064
    """

    labels: Tensor
    num_labels: int
    log_weights: Tensor
    weights: Tensor
    log_z: Estimate
    free_energy: Estimate
    kl: Estimate
    effective_sample_size: float
    pareto_k: float

    def expectation(self, phi: Tensor | Callable[[Tensor], Tensor]) -> Estimate:
        """E_p of a quantity.

        A ratio of means: its bias is at most its standard error times that of log Z, to first order.

        Parameters
        ----------
        phi
            (J, *spatial): the quantity is sum_i phi[alpha_i, i], RAF (25). Or a function that takes labelings
            (M, *spatial) and returns (M, ...).

        Returns
        -------
        Estimate
            Of shape (), or (...).

        Raises
        ------
        TypeError, ValueError
            phi, or what it returned, has another shape, or values that are not finite.

        Examples
        --------
        >>> energy = PottsEnergy(torch.zeros(1, 2, 2), torch.zeros(1, 1, 2))
        >>> every = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
        >>> weighted = importance(energy, every, torch.full((4,), 0.25).log())
        >>> float(weighted.expectation(lambda labels: labels.sum(dim=1)).value)
        1.0
        """
        values = self._values(phi).to(torch.float64)
        mean = torch.tensordot(self.weights, values, dims=1)
        squares = torch.tensordot(self.weights**2, (values - mean) ** 2, dims=1)
        return Estimate(mean, (squares * _correction(len(values))).sqrt())

    def marginals(self) -> Estimate:
        """p(alpha_i = j), corrected by the weights.

        Returns
        -------
        Estimate
            (J, *spatial) float64; values sum to 1 over J.
        """
        samples, spatial = self.labels.shape[0], self.labels.shape[1:]
        both = torch.stack([self.weights, self.weights**2])
        flat = self.labels.reshape(samples, -1) if self.labels.numel() else self.labels.new_zeros(samples, 0)
        sums = both.new_zeros(2, self.num_labels, flat.shape[1])
        rows = max(_BLOCK // max(flat.shape[1], 1), 1)
        for start in range(0, samples, rows):
            piece = flat[start : start + rows]
            for label in range(self.num_labels):
                sums[:, label] += both[:, start : start + rows] @ (piece == label).to(both.dtype)
        mean, squares = sums.reshape(2, self.num_labels, *spatial)
        # sum v^2 (1[alpha = j] - mean)^2, multiplied out: 1[.]^2 = 1[.].
        variance = squares * (1 - 2 * mean) + mean**2 * both[1].sum()
        return Estimate(mean, (variance.clamp(min=0) * _correction(samples)).sqrt())

    def _values(self, phi: Tensor | Callable[[Tensor], Tensor]) -> Tensor:
        shape = (self.num_labels, *self.labels.shape[1:])
        if isinstance(phi, Tensor):
            if tuple(phi.shape) != shape:
                raise ValueError(f"phi: expected shape {shape}, got {tuple(phi.shape)}")
            check_floating("phi", phi)
            index = self.labels.to(torch.int64).unsqueeze(1)
            table = phi.detach().unsqueeze(0).expand(len(index), *shape)
            values = table.gather(1, index).flatten(1).sum(dim=1)
        else:
            values = phi(self.labels)
            if not isinstance(values, Tensor) or values.ndim == 0 or len(values) != len(self.labels):
                got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
                raise ValueError(f"phi: expected a function to ({len(self.labels)}, ...), got {got}")
            values = values.detach()
        if values.dtype.is_floating_point:
            check_finite("phi", values)
        return values


def importance(
    energy: PottsEnergy, labels: Tensor, log_prob: Tensor, on_failure: OnFailure = "warn"
) -> Importance:
    """Weight labelings of a model so that they speak for the law of an energy.

    Any model that samples and knows its probabilities will do: mean field, or draws alpha_k ~ T(S^k) of a
    randomized assignment with log P-hat of the same S (:func:`flowcut.joint.divergence.mixture_log_prob`,
    the own component included). The latter is right although P-hat is only a sample of P: given S, one
    labeling of each component is a stratified sample of P-hat, so that the mean of w is Z on average whatever
    S is, and its variance no more than that of independent labelings of P-hat. ``free_energy`` and ``kl``
    are then those of P-hat, above those of P. (With the leave-one-out P-hat, Z would be overestimated.)

    The errors are those of the delta method and come from the weights that were seen. Where q hardly ever
    visits labelings that p likes, the sample shows neither them nor the true error, and every number here
    is too optimistic. The tail index warns of that if the sample holds a trace of it; a mode that q misses
    altogether leaves none.

    Parameters
    ----------
    energy
        One energy.
    labels
        (M, *spatial): independent labelings from q, M >= 2.
    log_prob
        (M,): log q of each, normalised over labelings, finite and <= 0.
    on_failure
        What to do where the tail index exceeds 0.7: "warn", "raise" or "ignore".

    Returns
    -------
    Importance
        Detached.

    Raises
    ------
    TypeError, ValueError
        Types or shapes do not fit, M < 2, more than one energy, or log q is not finite or > 0.
    NotConvergedError
        The weights are too heavy-tailed and ``on_failure`` is "raise".

    Examples
    --------
    Fair coins weighted towards two pixels that like to agree; Z = 2 + 2/e:

    >>> energy = PottsEnergy(torch.zeros(1, 2, 2), torch.tensor([[[1.0, 0.0]]]))
    >>> labels = torch.randint(2, (10000, 2), generator=torch.Generator().manual_seed(0))
    >>> weighted = importance(energy, labels, torch.full((10000,), 0.25).log())
    >>> error = float(weighted.log_z.value - (2 + 2 * torch.tensor(-1.0).exp()).log())
    >>> abs(error) < 3 * float(weighted.log_z.standard_error) < 0.02
    True
    """
    _check(energy, labels, log_prob)
    with torch.no_grad():
        log_weights = -energy.energy(labels).double() - log_prob.detach().double()
    samples = len(log_weights)
    weights = log_weights.softmax(dim=0)
    mean_log = log_weights.logsumexp(dim=0) - math.log(samples)
    relative = samples * weights  # w / mean w
    found = Importance(
        labels,
        energy.num_labels,
        log_weights,
        weights,
        log_z=Estimate(mean_log, mean_estimate(relative).standard_error),
        free_energy=mean_estimate(-log_weights),
        # >= 0 by Jensen, but for rounding.
        kl=Estimate(
            (mean_log - log_weights.mean()).clamp(min=0), mean_estimate(relative - log_weights).standard_error
        ),
        effective_sample_size=float(1 / (weights**2).sum()),
        pareto_k=pareto_shape(log_weights),
    )
    _report(found, on_failure)
    return found


def _correction(samples: int) -> float:
    return samples / (samples - 1)


def _report(found: Importance, on_failure: OnFailure) -> None:
    if on_failure == "ignore" or not found.pareto_k > _HEAVY_TAIL:
        return
    text = (
        f"importance: weights have tail index {found.pareto_k:.2f} > {_HEAVY_TAIL} (effective sample size "
        f"{found.effective_sample_size:.1f} of {len(found.weights)}), so that log_z, marginals and their "
        "errors may be far off: use a model nearer to the energy, or many more labelings"
    )
    if on_failure == "raise":
        raise NotConvergedError(text)
    warnings.warn(text, FlowcutWarning, stacklevel=3)


def _check(energy: PottsEnergy, labels: Tensor, log_prob: Tensor) -> None:
    if energy.items != 1:
        raise ValueError(f"energy: expected one energy, got {energy.items}; pick one by energy[i]")
    energy.check_labels(labels)
    if len(labels) < 2:
        raise ValueError(f"labels: expected M >= 2 labelings, got {len(labels)}")
    check_floating("log_prob", log_prob)
    if tuple(log_prob.shape) != (len(labels),):
        raise ValueError(f"log_prob: expected shape ({len(labels)},), got {tuple(log_prob.shape)}")
    check_finite("log_prob", log_prob)
    # Sums of rounded logarithms may end a little above 0.
    if float(log_prob.max()) > 1e-3:
        raise ValueError(f"log_prob: expected log probabilities <= 0, got {float(log_prob.max())}")
