"""The pictures of the circuit can be made, all those the pages show."""

import importlib.util
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.slow
def test_every_picture_is_made(tmp_path):
    pytest.importorskip("schemdraw", reason="schemdraw draws the circuits; pip install 'flowcut[docs]'")
    pytest.importorskip("matplotlib", reason="matplotlib draws the plots; pip install 'flowcut[docs]'")
    spec = importlib.util.spec_from_file_location("make_circuit_pictures", DOCS / "make_circuit_pictures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main([str(tmp_path)])
    made = {path.name for path in tmp_path.iterdir()}
    page = (DOCS / "receptive_field.md").read_text(encoding="utf-8")
    assert made == set(re.findall(r"_static/([\w.]+)", page))
    # A drawing and not an empty frame: the circuits are lines on white.
    pictures = pytest.importorskip("PIL.Image")
    for name in made:
        with pictures.open(tmp_path / name) as picture:
            dark = sum(picture.convert("L").histogram()[:128])
        assert dark > 1000, name
