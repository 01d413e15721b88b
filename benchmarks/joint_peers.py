"""Gibbs samplers of labelings: ours, those of other libraries, and checkerboards by hand.

All draw by heat bath, one pixel at a time given its neighbours, and go on from where they were. Two
libraries take part: dwave-samplers (C++), whose simulated annealing with one temperature and Gibbs
acceptance is a Gibbs sampler of Ising models, and peapods (Rust), for Ising models without a field on
lattices. By hand there are checkerboards. NumPy's array operations run on one thread, so that chains are
also dealt out to threads, as who needs speed would do; PyTorch has threads of its own.

Not here: thrml, since JAX alone takes 350 MB; pgmpy, whose sampler is Python at every pixel; ising-rs, which
has Metropolis and Wolff but no Gibbs. None of the rest has Potts models of more labels on a grid.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

import flowcut as fc
from benchmarks.joint_checkerboard import SETTINGS, Checkerboard, library
from benchmarks.joint_problem import Labels, arrays

OURS = "flowcut"


class Moved(NamedTuple):
    """States after some sweeps.

    Attributes
    ----------
    labels
        (M, n).
    assembly_seconds
        What of the time went to translating the model and the states.
    """

    labels: Labels
    assembly_seconds: float = 0.0


class Sampler(Protocol):
    """M chains, somewhere."""

    def advance(self, sweeps: int) -> Moved:
        """Draw every pixel of every chain so many times."""


class Peer(NamedTuple):
    """A way to sample.

    Attributes
    ----------
    name
        For tables.
    package
        What has to be installed.
    settings
        Those worth trying.
    make
        Takes an energy, the number of chains and a setting.
    refuses
        Why it cannot draw from an energy; empty if it can.
    """

    name: str
    package: str
    settings: tuple[str, ...]
    make: Callable[[fc.PottsEnergy, int, str], Sampler]
    refuses: Callable[[fc.PottsEnergy], str]


class FlowcutGibbs:
    """:func:`flowcut.gibbs`, called as a user does who wants the last states only."""

    def __init__(self, energy: fc.PottsEnergy, chains: int, setting: str) -> None:
        self.energy, self.chains, self.calls = energy, chains, 0
        self.labels: torch.Tensor | None = None

    def advance(self, sweeps: int) -> Moved:
        """See :class:`Sampler`."""
        self.calls += 1
        found = fc.gibbs(
            self.energy, self.chains, draws=1, thin=sweeps, burn_in=0, initial=self.labels, seed=self.calls
        )
        self.labels = found.states[0].reshape(self.chains, *self.energy.spatial)
        return Moved(found.states[0].to(torch.int8).numpy())


class ByHand:
    """A checkerboard in NumPy or PyTorch; on several threads each has some of the chains."""

    def __init__(
        self, energy: fc.PottsEnergy, chains: int, setting: str, name: str, threaded: bool = False
    ) -> None:
        parts = min(chains, torch.get_num_threads()) if threaded else 1
        given = arrays(energy)
        self.boards = [
            Checkerboard(given, len(some), setting, library(name, seed))
            for seed, some in enumerate(np.array_split(np.arange(chains), parts))
        ]

    def advance(self, sweeps: int) -> Moved:
        """See :class:`Sampler`."""
        if len(self.boards) == 1:
            return Moved(self.boards[0].advance(sweeps))
        with ThreadPoolExecutor(len(self.boards)) as pool:
            return Moved(np.concatenate(list(pool.map(lambda board: board.advance(sweeps), self.boards))))


class Dwave:
    """dwave-samplers: its simulated annealing at the inverse temperature 1.

    One call runs on one thread and leaves the interpreter alone; "all threads" deals out the chains.
    """

    def __init__(self, energy: fc.PottsEnergy, chains: int, setting: str) -> None:
        dimod, samplers = importlib.import_module("dimod"), importlib.import_module("dwave.samplers")
        self.model, self.sampler = _spin_model(dimod, energy), samplers.SimulatedAnnealingSampler()
        parts = min(chains, torch.get_num_threads()) if setting == "all threads" else 1
        spins = np.random.default_rng(0).choice(np.array([-1, 1], np.int8), (chains, len(self.model)))
        self.states, self.calls = np.array_split(spins, parts), 0

    def advance(self, sweeps: int) -> Moved:
        """See :class:`Sampler`."""
        self.calls += 1
        with ThreadPoolExecutor(len(self.states)) as pool:
            found = list(pool.map(partial(self._part, sweeps), range(len(self.states))))
        self.states = [states for states, _ in found]
        labels = (np.concatenate(self.states) > 0).astype(np.int8)
        return Moved(labels, max(seconds for _, seconds in found))

    def _part(self, sweeps: int, part: int) -> tuple[Labels, float]:
        states = self.states[part]
        found = self.sampler.sample(
            self.model,
            num_reads=len(states),
            initial_states=states,
            beta_schedule_type="custom",
            beta_schedule=[1.0],
            num_sweeps_per_beta=sweeps,
            proposal_acceptance_criteria="Gibbs",
            seed=len(self.states) * self.calls + part,
        )
        timing = found.info["timing"]
        return found.record.sample, 1e-9 * (timing["preprocessing_ns"] + timing["postprocessing_ns"])


def _spin_model(dimod: Any, energy: fc.PottsEnergy) -> Any:
    """E = sum h s + sum c s s': h = (unary_1 - unary_0) / 2, c = -w / 2."""
    given = arrays(energy)
    numbers = np.arange(given.down.size).reshape(given.down.shape)
    first = np.concatenate([numbers[:-1].ravel(), numbers[:, :-1].ravel()])
    second = np.concatenate([numbers[1:].ravel(), numbers[:, 1:].ravel()])
    weights = np.concatenate([given.down[:-1].ravel(), given.right[:, :-1].ravel()])
    field = (given.unary[1] - given.unary[0]).ravel() / 2
    return dimod.BinaryQuadraticModel.from_numpy_vectors(
        field, (first, second, -weights / 2), 0.0, dimod.SPIN
    )  # fmt: skip


class Peapods:
    """peapods: a lattice that is closed to a torus, opened by couplings 0.

    Chains are systems of one temperature each (replicas would be compared with each other), and nothing is
    measured on the way: all sweeps are warm-up. Equal ties become couplings 1 at another temperature, for
    which it may have a table.
    """

    def __init__(self, energy: fc.PottsEnergy, chains: int, setting: str) -> None:
        ising = importlib.import_module("peapods").Ising
        given = arrays(energy)
        couplings, temperature = np.stack([given.down, given.right], axis=2) / 2, 1.0
        least = couplings[couplings != 0].min(initial=np.inf)
        if np.all((couplings == 0) | (couplings == least)) and least > 0:
            couplings, temperature = np.sign(couplings), 1 / float(least)
        self.model = ising(given.down.shape, couplings, np.full(chains, temperature))
        self.chains, self.sequential = chains, setting == "one thread"

    def advance(self, sweeps: int) -> Moved:
        """See :class:`Sampler`."""
        # Means over no measurement are NaN, which is no fault.
        with np.errstate(invalid="ignore", divide="ignore"):
            self.model.sample(sweeps, sweep_mode="gibbs", warmup_ratio=1.0, sequential=self.sequential)
        # The only way to the states; the package has no other.
        spins = np.asarray(self.model._sim.get_spins()).reshape(self.chains, -1)
        return Moved((spins > 0).astype(np.int8))


def _takes_all(energy: fc.PottsEnergy) -> str:
    return ""


def _ising_only(energy: fc.PottsEnergy) -> str:
    return "" if energy.num_labels == 2 else "two labels only"


def _no_field(energy: fc.PottsEnergy) -> str:
    equal = bool((energy.unary[:, 0] == energy.unary[:, 1]).all())
    return _ising_only(energy) or ("" if equal else "no fields")


PEERS = (
    Peer("dwave-samplers", "dwave.samplers", ("one thread", "all threads"), Dwave, _ising_only),
    Peer("peapods", "peapods", ("one thread", "all threads"), Peapods, _no_field),
    Peer("NumPy checkerboard", "numpy", SETTINGS, partial(ByHand, name="NumPy"), _takes_all),
    Peer(
        "NumPy checkerboard, threads", "numpy", SETTINGS,
        partial(ByHand, name="NumPy", threaded=True), _takes_all,
    ),
    Peer("PyTorch checkerboard", "torch", SETTINGS, partial(ByHand, name="PyTorch"), _takes_all),
)  # fmt: skip
FLOWCUT = Peer(OURS, "flowcut", ("",), FlowcutGibbs, _takes_all)


def installed(wanted: tuple[str, ...] = ()) -> tuple[list[Peer], dict[str, str]]:
    """Peers that can run here, and for the others why they cannot; ``wanted`` empty for all."""
    found: list[Peer] = []
    missing: dict[str, str] = {}
    for peer in PEERS:
        if wanted and peer.name not in wanted:
            continue
        try:
            importlib.import_module(peer.package)
        except (ImportError, OSError) as error:
            missing[peer.name] = f"{type(error).__name__}: {error}"
        else:
            found.append(peer)
    return found, missing
