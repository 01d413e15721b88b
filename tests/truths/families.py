"""The ten weight families, for tests that go through all of them.

They are defined once, in :mod:`benchmarks.families`; this module only says which ones
can be made here, so that a test's parameters are one name.
"""

from __future__ import annotations

import importlib.util

import pytest
from benchmarks.families import FAMILIES, make_family

__all__ = ["EVERY_FAMILY", "make_family"]

_no_camera = pytest.mark.skipif(
    importlib.util.find_spec("skimage") is None, reason="the camera families need scikit-image"
)

EVERY_FAMILY = [pytest.param(name, marks=_no_camera if name.startswith("cam") else ()) for name in FAMILIES]
"""Parameters of ``pytest.mark.parametrize("family", EVERY_FAMILY)``."""
