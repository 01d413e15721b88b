"""Lightning task, recipes and the training loop."""
