from flowcut.linear.cholesky import Cholesky
from tests.zoo.entry import SolverEntry

entry = SolverEntry("cholesky", Cholesky())
