r"""Randomized assignment flows: a distribution over labelings made of S-flows with random couplings (RAF).

Draw couplings Omega and a start S_0, run dS/dt = R_S(Omega S) for a while, and draw every pixel's label from
S(t): P = E[T(S(t))] (6). Every single T(S) is a product over pixels, their average is not, so that P has
modes and correlations that no mean field has. For t to infinity S(t) is integral (Theorem 1) and P is the
law of the labelings that flows end in.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from os import PathLike
from typing import Any, Literal

import torch
from torch import Tensor, nn

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.core.records import read_record, write_record
from flowcut.core.results import OnFailure
from flowcut.core.warnings import FlowcutWarning
from flowcut.joint.divergence import KlBounds, draw_labels, kl_bounds, mixture_log_prob
from flowcut.joint.dynamics import ConvolutionDynamics, PairDynamics
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.entropy import entropy_of_labels
from flowcut.joint.estimate import Estimate, mean_estimate
from flowcut.joint.exact import ExactLaw
from flowcut.joint.fitting import Draw, FitHistory, fit_model
from flowcut.joint.gaussian import Covariance, NormalVectors
from flowcut.joint.importance import Importance, importance
from flowcut.joint.objective import log_assignments
from flowcut.joint.randomized_inputs import check_kinds, check_numbers, initial_couplings

Start = Literal["random", "learned", "fixed"]

_VERSION = 1
# Samples drawn at once, where many are asked for; part of what a seed means.
_CHUNK = 4096
# Labels are drawn with another seed than flows, one that is nobody's first choice.
_LABELS = 1 << 40
# Steps after which a flow that has not ended is reported.
_MAX_STEPS = 400


class RandomizedAssignment(nn.Module):
    """A distribution over labelings, to be fitted to an energy and sampled from.

    Couplings are Omega = max(Z + Z^T, 0) + epsilon I over pairs of pixels, Z normal; the start is normal in
    logits, a mixture of ``components``, and shares factors with Z.

    Parameters
    ----------
    shape
        (J, *spatial), as ``energy.shape``; on a graph (J, n).
    couplings
        Which pixels a flow couples. None: all pairs (n (n + 1) / 2 numbers a sample). A neighborhood or
        graph: those that it ties. An odd integer: Omega is a convolution between labels with windows of
        that side (RAF (3)), the same for all pixels, of any sign; for pictures.
    covariance
        Of Z + Z^T: "diagonal", "low-rank" (plus diagonal), or "full".
    rank
        Factors of a low-rank covariance, shared with the start; at most n. Default: 8, or n if that is less.
    start
        "random"; "learned": the mean of each component is learned, nothing is random; "fixed": not even that.
    start_covariance
        Of a random start. Default: "full" up to 512 numbers, above it "low-rank".
    components
        Components of the mixture that starts are drawn from, all with the same weight.
    time
        When labels are drawn, > 0. Fitting may change it.
    step, growth
        First Euler step, and what every following is multiplied by, >= 1.
    epsilon
        Added to the diagonal of Omega, > 0.
    initial
        "scaled": couplings start small for many pixels, mean 0.08 and deviation 0.34 times 24 / n for all
        pairs. "paper": mean 1/20 and variance 1/10 for entries of Z.
    seed
        Of the initial parameters.

    Attributes
    ----------
    time
        When labels are drawn.

    Raises
    ------
    ValueError
        A number is out of its range.

    Examples
    --------
    >>> energy = PottsEnergy(torch.zeros(1, 2, 2), torch.tensor([[[3.0, 0.0]]]))
    >>> model = RandomizedAssignment(energy.shape, components=2)
    >>> model.sample(3).shape, model.sample(3, limit=True).dtype
    (torch.Size([3, 2]), torch.int64)
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        couplings: Neighborhood | Graph | int | None = None,
        covariance: Covariance = "low-rank",
        rank: int | None = None,
        start: Start = "random",
        start_covariance: Covariance | None = None,
        components: int = 16,
        time: float = 1.0,
        step: float = 0.1,
        growth: float = 1.15,
        epsilon: float = 1e-3,
        initial: Literal["scaled", "paper"] = "scaled",
        seed: int = 0,
    ) -> None:
        super().__init__()
        shape = tuple(int(s) for s in shape)
        check_kinds(covariance, start_covariance or "full", start, initial)
        rank = min(8, math.prod(shape[1:])) if rank is None else rank
        check_numbers(shape, rank, components, time, step, growth, epsilon)
        self.shape, self.rank, self.components = shape, rank, components
        self.time, self.step, self.growth, self.start_kind = float(time), step, growth, start
        self.dynamics: PairDynamics | ConvolutionDynamics = (
            ConvolutionDynamics(shape, couplings)
            if isinstance(couplings, int)
            else PairDynamics(shape, couplings, epsilon)
        )
        generator = torch.Generator().manual_seed(seed)
        pixels = math.prod(shape[1:])
        numbers = self.dynamics.channels * pixels
        mean, factor, noise = initial_couplings(self.dynamics, pixels, initial)
        self.couplings = NormalVectors(
            self.dynamics.size, rank, 1, covariance, mean, 0.0, factor, noise, generator
        )
        chosen = start_covariance or ("full" if numbers <= 512 else "low-rank")
        self.start = NormalVectors(numbers, rank, components, chosen, 0.0, 0.3, 0.3, 0.1, generator)
        self._freeze_start()

    def _freeze_start(self) -> None:
        parts = self.start
        parts.mean.requires_grad_(self.start_kind != "fixed")
        for part in (parts.factors, parts.scale):
            part.requires_grad_(self.start_kind == "random")

    def steps(self, time: float | None = None) -> list[float]:
        """Euler steps that reach a time: growing, the last one shortened."""
        left, step, steps = self.time if time is None else time, self.step, []
        while left > 1e-9 * self.step:
            steps.append(min(step, left))
            left, step = left - steps[-1], step * self.growth
        return steps

    def draw(self, count: int, generator: torch.Generator, stratified: bool = False) -> Draw:
        """Draw starts and couplings.

        Parameters
        ----------
        count
            M.
        generator
            On the CPU.
        stratified
            Take components in turn instead of by chance.
        """
        if stratified:
            component = torch.arange(count) % self.components
        else:
            component = torch.randint(self.components, (count,), generator=generator)
        device = self.start.mean.device
        factors = torch.randn(self.rank, count, generator=generator).to(device)
        component = component.to(device)
        if self.start_kind == "random":
            start = self.start(factors, component, generator)
        else:
            start = self.start.mean[:, component]
        start = start.reshape(self.dynamics.channels, -1, count)
        if len(start) > 1:
            start = start - start.mean(dim=0, keepdim=True)
        return Draw(start, self.couplings(factors, component * 0, generator))

    def logits(self, draw: Draw, time: float | None = None) -> Tensor:
        """(C, n, M) at a time, differentiable in the draw."""
        return self.dynamics.run(draw.start, draw.couplings, self.steps(time))

    def fit(self, energy: PottsEnergy, steps: int = 1500, samples: int = 512, **options: Any) -> FitHistory:
        """Minimise KL(P || exp(-E) / Z) by Adam; see :func:`flowcut.joint.fitting.fit_model`.

        Parameters
        ----------
        energy
            One energy of this model's shape.
        steps, samples
            Steps of Adam and flows drawn in each.
        **options
            lr, betas, time, beta, anneal, deepen, memory, objective, seed, progress, checkpoint,
            checkpoint_every, callback.

        Returns
        -------
        FitHistory
            What was estimated on the way.
        """
        self._check_energy(energy)
        return fit_model(self, energy, steps, samples, **options)

    @torch.no_grad()
    def log_assignments(self, count: int, seed: int = 0, time: float | None = None) -> Tensor:
        """log S(t) of independent draws, (M, J, *spatial)."""
        parts = [log_assignments(self.logits(draw, time)) for draw in self._chunks(count, seed)]
        log_s = torch.cat(parts, dim=2) if parts else self.start.mean.new_zeros(self.shape[0], 1, 0)
        return log_s.permute(2, 0, 1).reshape(count, *self.shape)

    @torch.no_grad()
    def sample(self, count: int, limit: bool = False, seed: int = 0, time: float | None = None) -> Tensor:
        """Independent labelings (M, *spatial) int64.

        Parameters
        ----------
        count
            M >= 0.
        limit
            Where the flow ends (7), instead of a draw from S(t).
        seed
            Equal seeds give equal labelings.
        time
            t; default the model's.

        Examples
        --------
        >>> model = RandomizedAssignment((3, 4, 5), seed=1)
        >>> model.sample(2, limit=True, seed=7).shape
        torch.Size([2, 4, 5])
        """
        if count < 0:
            raise ValueError(f"count: expected an integer >= 0, got {count}")
        if not limit:
            return draw_labels(self.log_assignments(count, seed, time), seed + _LABELS)
        parts, unfinished = [], 0
        for draw in self._chunks(count, seed):
            growth = max(self.growth, 1.1)
            labels, taken = self.dynamics.limit(draw.start, draw.couplings, self.step, growth, _MAX_STEPS)
            parts.append(labels.T.to(torch.int64))
            unfinished += int((taken < 0).sum())
        if unfinished:
            warnings.warn(
                f"{unfinished} of {count} flows had not ended after {_MAX_STEPS} steps: "
                f"they are rounded where they were",
                FlowcutWarning,
                stacklevel=2,
            )
        found = torch.cat(parts) if parts else torch.zeros(0, math.prod(self.shape[1:]), dtype=torch.int64)
        return found.reshape(count, *self.shape[1:])

    def marginals(self, count: int = 8192, limit: bool = False, seed: int = 0) -> Estimate:
        """P(alpha_i = j), the mean of S (24), with standard errors; (J, *spatial)."""
        return mean_estimate(self._assignments(count, limit, seed))

    def expectation(self, phi: Tensor, count: int = 8192, limit: bool = False, seed: int = 0) -> Estimate:
        """E of sum_i phi[alpha_i, i], the mean of <S, phi> (25); phi (J, *spatial).

        Raises
        ------
        ValueError
            phi has another shape.
        """
        if tuple(phi.shape) != self.shape:
            raise ValueError(f"phi: expected shape {self.shape}, got {tuple(phi.shape)}")
        values = self._assignments(count, limit, seed).flatten(1) @ phi.flatten().to(self.start.mean.dtype)
        return mean_estimate(values)

    def entropy(
        self,
        count: int = 100_000,
        limit: bool = True,
        method: Literal["miller-madow", "plug-in", "jackknife", "minimax"] = "miller-madow",
        seed: int = 0,
    ) -> Estimate:
        """Entropy in nats from labelings (RAF (19), (20)); see :func:`flowcut.entropy_of_labels`.

        Needs many more labelings than the law has likely ones; :meth:`kl` has bounds for draws at finite
        time.
        """
        return entropy_of_labels(self.sample(count, limit, seed), method)

    def kl(self, law: ExactLaw, limit: bool = False, count: int | None = None, seed: int = 0) -> KlBounds:
        """KL(P || P*) to an exact law.

        Parameters
        ----------
        law
            Of an energy of this shape.
        limit
            Of the labelings that flows end in: from their mean energy and their entropy by Miller-Madow, as
            in the paper; lower and upper bound are then the same estimate.
        count
            Draws. Default 8192; in the limit 1 000 000.
        seed
            Of the draws.
        """
        if not limit:
            return self.free_energy(law.energy, count or 8192, seed, float(law.log_z))
        self._check_energy(law.energy)
        labels = self.sample(count or 1_000_000, limit=True, seed=seed)
        entropy = entropy_of_labels(labels, "miller-madow")
        parts = [law.energy.energy(piece).double() for piece in torch.split(labels, _CHUNK)]
        energy = mean_estimate(torch.cat(parts))
        # Energy and entropy of one sample vary together; their difference varies less than this.
        error = (energy.standard_error**2 + entropy.standard_error**2).sqrt()
        value = Estimate(energy.value - entropy.value + law.log_z.detach(), error)
        return KlBounds(value, value, energy, entropy, entropy)

    def free_energy(
        self, energy: PottsEnergy, count: int = 8192, seed: int = 0, log_z: float = 0.0
    ) -> KlBounds:
        """E_P[E + log P] + log Z from both sides; without log Z this is at least -log Z."""
        self._check_energy(energy)
        return kl_bounds(energy, self.log_assignments(count, seed), log_z, generator=seed + _LABELS)

    def importance(
        self, energy: PottsEnergy, count: int = 8192, seed: int = 0, on_failure: OnFailure = "warn"
    ) -> Importance:
        """Weigh draws by exp(-E) / P-hat: log Z, corrected marginals and expectations with errors.

        P-hat is the mixture of the drawn flows, each of which gives one labeling.
        """
        self._check_energy(energy)
        log_s = self.log_assignments(count, seed)
        labels = draw_labels(log_s, seed + _LABELS)
        return importance(energy, labels, mixture_log_prob(log_s, labels), on_failure)

    def log_prob(self, labels: Tensor, count: int = 8192, seed: int = 0) -> Tensor:
        """log P of labelings (M, *spatial), estimated by a mixture of ``count`` flows; (M,)."""
        return mixture_log_prob(self.log_assignments(count, seed), labels)

    def save(self, path: str | PathLike[str]) -> None:
        """Write parameters and what they belong to, whole or not at all.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        write_record(
            path, "randomized_assignment", _VERSION, {**self._identity(), "state": self.state_dict()}
        )

    def load(self, path: str | PathLike[str]) -> None:
        """Take over what :meth:`save` wrote for a model of this shape; nothing in the file is executed.

        Raises
        ------
        OSError
            There is no such file.
        ValueError
            It is none of ours, or of a model of another shape or kind.
        """
        values = read_record(path, "randomized_assignment", _VERSION)
        own = self._identity()
        for name in own:
            if name != "time" and values[name] != own[name]:
                raise ValueError(f"{path}: expected a model of {name} {own[name]}, got {values[name]}")
        self.load_state_dict(values["state"])
        self.time = values["time"]

    def _identity(self) -> dict[str, Any]:
        sizes = {name: list(value.shape) for name, value in self.state_dict().items()}
        steps = [self.step, self.growth]
        couplings = self.dynamics.identity()
        return {
            "shape": list(self.shape),
            "start": self.start_kind,
            "sizes": sizes,
            "couplings": couplings,
            "steps": steps,
            "time": self.time,
        }

    @torch.no_grad()
    def _assignments(self, count: int, limit: bool, seed: int) -> Tensor:
        """(M, J, *spatial): S(t), or one-hot in the limit."""
        if not limit:
            return self.log_assignments(count, seed).exp()
        labels = self.sample(count, limit=True, seed=seed)
        hot = nn.functional.one_hot(labels, self.shape[0]).movedim(-1, 1)
        return hot.to(self.start.mean.dtype)

    def _chunks(self, count: int, seed: int) -> Iterator[Draw]:
        generator = torch.Generator().manual_seed(seed)
        for first in range(0, count, _CHUNK):
            yield self.draw(min(_CHUNK, count - first), generator)

    def _check_energy(self, energy: PottsEnergy) -> None:
        if energy.items != 1:
            raise ValueError(f"energy: expected one energy, got {energy.items}; pick one by energy[i]")
        if energy.shape != self.shape:
            raise ValueError(f"energy: expected the model's shape {self.shape}, got {energy.shape}")

    def extra_repr(self) -> str:
        """What the model is for."""
        return f"shape={self.shape}, time={self.time:g}, components={self.components}"
