from flowcut.linear.thesis_cg import ThesisCG
from tests.zoo.entry import SolverEntry

entry = SolverEntry("thesis_cg", ThesisCG(atol=1e-13), graphs=False, hasty=ThesisCG(max_steps=1))
