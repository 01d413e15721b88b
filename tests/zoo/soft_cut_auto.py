from dataclasses import replace

from flowcut.cut.soft_cut import SoftCut, soft_cut
from flowcut.linear.auto import Auto
from tests.zoo.soft_cut import entry as by_cg

_SOLVER = Auto(rtol=1e-13)

entry = replace(
    by_cg,
    name="soft_cut_auto",
    call=lambda *inputs: soft_cut(*inputs, solver=_SOLVER),
    module=lambda: SoftCut(solver=_SOLVER),
)
