"""Peak memory of one gradient in a process of its own.

``python -m benchmarks.flow_memory '{"contender": "Euler, padded", "shape": [512, 512], "labels": 6,
"window": 5}'`` prints JSON. What is counted is the peak of the resident memory above what was there with the
inputs made and everything compiled, without the outputs, which are V and the gradient of the weights.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.flow_problem import contenders, make_task
from benchmarks.memory_probe import MAP_ARRAYS_FROM, largest_ever, reset_peak, status

WARM_UP_SIDE = 32


def measure(contender: str, shape: tuple[int, ...], labels: int, window: int) -> dict[str, Any]:
    """Peak above inputs and outputs, in bytes."""
    gradient = contenders(compiler=True)[contender]
    small = make_task(tuple(min(side, WARM_UP_SIDE) for side in shape), labels, window)
    for _ in range(2):
        gradient(small)
    task = make_task(shape, labels, window)
    if contender == "Euler, torch.compile":
        # Its programs belong to one shape; compiling them is not what is measured.
        gradient(task)
    gc.collect()
    resettable = reset_peak()
    before = status("VmRSS") if resettable else largest_ever()
    outputs = gradient(task)
    after = status("VmHWM") if resettable else largest_ever()
    given_back = sum(tensor.numel() * tensor.element_size() for tensor in outputs)
    return {
        "contender": contender,
        "shape": list(shape),
        "labels": labels,
        "window": window,
        "method": "VmHWM after clear_refs" if resettable else "ru_maxrss",
        "extra_bytes": after - before - given_back,
        "outputs_bytes": given_back,
    }


def probe(contender: str, shape: tuple[int, ...], labels: int, window: int) -> dict[str, Any]:
    """Run :func:`measure` in a fresh process."""
    request = json.dumps({"contender": contender, "shape": shape, "labels": labels, "window": window})
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.flow_memory", request],
        capture_output=True,
        text=True,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": str(MAP_ARRAYS_FROM)},
        cwd=Path(__file__).parents[1],
        check=False,
    )
    if done.returncode:
        raise RuntimeError(
            f"memory of {contender} at {shape} failed: {done.stderr.strip().splitlines()[-1:]}"
        )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    wanted = json.loads(sys.argv[1])
    print(json.dumps(measure(**{**wanted, "shape": tuple(wanted["shape"])})))
