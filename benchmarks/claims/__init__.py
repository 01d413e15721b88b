"""One file a claim, found by its name.

A claim module has

``TITLE``
    what is claimed, in a line;
``run(options) -> dict``
    the measurement; whatever it returns is saved with date, machine and versions;
``tables(result) -> list of (heading, header, rows)``
    what a reader should see.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def all_claims() -> dict[str, ModuleType]:
    """Claim modules by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: importlib.import_module(f"{__name__}.{name}") for name in names}
