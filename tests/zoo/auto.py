from flowcut.linear.auto import Auto
from tests.zoo.entry import SolverEntry

entry = SolverEntry("auto", Auto(rtol=1e-13))
