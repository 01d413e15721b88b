"""Peak memory of one forward and backward in a process of its own.

``python -m benchmarks.memory_probe '{"shape": [512, 512], "steps": 20}'`` prints JSON.
What is counted is the peak of the resident memory above what was there with the inputs
made and everything compiled, in image-sized float32 arrays, outputs subtracted.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.families import num_pixels

BYTES_PER_PIXEL = 4
# Arrays below this size are taken from the heap, whose unused part is invisible from outside.
MAP_ARRAYS_FROM = 65536
STATUS = Path("/proc/self/status")
PEAK_RESET = Path("/proc/self/clear_refs")


def make_inputs(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores, softplus-like edges and a cotangent, without temporaries."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.empty(1, 1, *shape).normal_(generator=generator)
    edges = torch.empty(1, len(shape), *shape).uniform_(0, 6, generator=generator)
    cotangent = torch.empty(1, 1, *shape).normal_(generator=generator)
    return scores, edges, cotangent


def measure(shape: tuple[int, ...], steps: int) -> dict[str, Any]:
    """Peak above inputs and outputs, in bytes and arrays."""
    # An import of flowcut here would be loaded by every benchmark that only starts a probe.
    from benchmarks.claims.growth import fixed_steps

    warm_up = make_inputs(tuple(min(length, 32) for length in shape))
    for _ in range(3):
        fixed_steps(*warm_up, steps)
    inputs = make_inputs(shape)
    gc.collect()
    resettable = reset_peak()
    before = status("VmRSS") if resettable else largest_ever()
    outputs = fixed_steps(*inputs, steps)
    after = status("VmHWM") if resettable else largest_ever()
    image = BYTES_PER_PIXEL * num_pixels(shape)
    given_back = sum(tensor.numel() * tensor.element_size() for tensor in outputs)
    extra = after - before - given_back
    return {
        "shape": list(shape),
        "steps": steps,
        "method": "VmHWM after clear_refs" if resettable else "ru_maxrss",
        "extra_bytes": extra,
        "arrays": extra / image,
        "outputs_in_arrays": given_back / image,
    }


def probe(shape: tuple[int, ...], steps: int) -> dict[str, Any]:
    """Run :func:`measure` in a fresh process."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(MAP_ARRAYS_FROM)}
    request = json.dumps({"shape": shape, "steps": steps})
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory_probe", request],
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[1],
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"memory probe of {shape} failed: {done.stderr.strip().splitlines()[-1:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def reset_peak() -> bool:
    try:
        PEAK_RESET.write_text("5")
    except OSError:
        return False
    return True


def status(key: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return 1024 * int(line.split()[1])


def largest_ever() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    wanted = json.loads(sys.argv[1])
    print(json.dumps(measure(tuple(wanted["shape"]), wanted["steps"])))
