"""Results on disk: one JSON a claim, written whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"


def save(result: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write ``<claim>.json`` and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result['claim']}.json"
    temporary = path.with_suffix(".json.part")
    temporary.write_text(json.dumps(_plain(result), indent=1) + "\n")
    os.replace(temporary, path)
    return path


def load(claim: str, folder: Path = RESULTS) -> dict[str, Any]:
    """Read the saved result of one claim."""
    loaded: dict[str, Any] = json.loads((folder / f"{claim}.json").read_text())
    return loaded


def _plain(value: Any) -> Any:
    """Builtin numbers of six digits: more is noise, and the files stay readable."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}") if np.isfinite(value) else str(value)
    if isinstance(value, np.integer):
        return int(value)
    return value
