"""`flowcut demo`: networks with and without a head, labels from noise, an Ising model, and one page of it."""

from __future__ import annotations

from jsonargparse import ArgumentParser

from flowcut.apps.command import Command

__all__ = ["COMMAND"]


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--output", type=str, default="demo", help="folder for index.html and demo.json")
    parser.add_argument(
        "--epochs", type=int, default=60, help="passes over the training mosaics, for both networks"
    )
    parser.add_argument("--pictures", type=int, default=96, help="training mosaics")
    parser.add_argument("--size", type=int, default=64, help="height and width of a mosaic in pixels")
    parser.add_argument("--seed", type=int, default=1, help="seed of the mosaics, the weights and the order")


COMMAND = Command(
    name="demo",
    help="train a network with and without a head, learn a flow, sample an Ising model; one page of it all",
    add_arguments=_add_arguments,
    work="flowcut.apps.work.demo:run",
)
