"""Assignment flows: dynamics on the simplex in which neighbouring pixels average each other's labels."""
