"""Words every room shares: neighborhoods, graphs, argument checks, results. No mathematics."""
