"""Kinds of experiments, discovered: each file here declares one `KIND`."""
