"""The tables and figures of the papers: one YAML file each in `experiments`, one file a kind in `kinds`."""
