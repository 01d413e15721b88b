"""A x = b on a grid or graph: operators, solvers, the adjoint, solve()."""
