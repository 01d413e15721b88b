"""The libraries a user would otherwise pick, each at its best fair setting."""

from __future__ import annotations

import importlib
import pkgutil

from benchmarks.peers.base import Peer


def all_peers(
    wanted: tuple[str, ...] = (), only: tuple[str, ...] = (), without: tuple[str, ...] = ()
) -> tuple[list[Peer], dict[str, str]]:
    """Peers that can run here, and for the others why they cannot.

    Parameters
    ----------
    wanted
        Names asked for by the user; empty for all.
    only, without
        Names a claim is about, and names it leaves out.
    """
    found: list[Peer] = []
    missing: dict[str, str] = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda m: m.name):
        if module.name == "base":
            continue
        for peer in importlib.import_module(f"{__name__}.{module.name}").PEERS:
            if peer.name in without or any(names and peer.name not in names for names in (wanted, only)):
                continue
            try:
                importlib.import_module(peer.package)
            except (ImportError, OSError) as error:
                missing[peer.name] = f"{type(error).__name__}: {error}"
            else:
                found.append(peer)
    return found, missing
