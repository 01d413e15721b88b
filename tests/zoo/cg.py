from flowcut.linear.cg import CG
from tests.zoo.entry import SolverEntry

entry = SolverEntry("cg", CG(rtol=1e-13), hasty=CG(rtol=1e-6, max_steps=2))
