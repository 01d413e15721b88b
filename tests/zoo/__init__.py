"""One small file a solver, layer or sampler: what the conformance tests need to know of it.

A file defines ``entry``. :data:`SOLVERS`, :data:`LAYERS` and :data:`SAMPLERS` find them all; every test in
``tests/conformance`` then runs on each.
"""

from __future__ import annotations

import importlib
import pkgutil

from tests.zoo.entry import Layer, SamplerEntry, SolverEntry

_ENTRIES = [
    importlib.import_module(f"{__name__}.{module.name}").entry
    for module in pkgutil.iter_modules(__path__)
    if module.name != "entry"
]
SOLVERS = [entry for entry in _ENTRIES if isinstance(entry, SolverEntry)]
LAYERS = [entry for entry in _ENTRIES if isinstance(entry, Layer)]
SAMPLERS = [entry for entry in _ENTRIES if isinstance(entry, SamplerEntry)]
