from dataclasses import replace

from flowcut.cut.soft_cut import SoftCut, soft_cut
from flowcut.linear.cholesky import Cholesky
from tests.zoo.soft_cut import entry as by_cg

_SOLVER = Cholesky()

entry = replace(
    by_cg,
    name="soft_cut_cholesky",
    call=lambda *inputs: soft_cut(*inputs, solver=_SOLVER),
    module=lambda: SoftCut(solver=_SOLVER),
)
