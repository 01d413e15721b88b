"""Pictures in, masks out: losses, metrics, networks, data, checkpoints, predict."""
