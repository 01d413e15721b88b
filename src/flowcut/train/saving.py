"""Checkpoints on disk that are whole at every moment, whatever stops the process."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from flowcut.core.atomic import atomic_write

__all__ = ["MovableCheckpoint", "WholeFiles", "is_full_disk"]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_full_disk(error: OSError) -> bool:
    """Tell whether an error means that no more can be written.

    Examples
    --------
    >>> is_full_disk(OSError(errno.ENOSPC, "No space left on device"))
    True
    """
    return error.errno in _FULL


class WholeFiles(TorchCheckpointIO):
    """Write checkpoints beside their place and rename them.

    Lightning's own way writes to the folder for temporary files; moving from there to another file system
    copies onto the old checkpoint, which a kill in that moment destroys.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint whole or not at all.

        Raises
        ------
        OSError
            If it cannot be written; an older one of that name is left as it was.
        """
        # Into memory first: errors of the file then come as they are, and not as those of an archive.
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(content.getbuffer())
            file.flush()
            # Disks may say only now that they are full.
            os.fsync(file.fileno())


class MovableCheckpoint(ModelCheckpoint):
    """Lightning's checkpoints of epochs, in a folder that may be moved between two parts of a training."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what was best, wherever the folder lay then."""
        here = self.dirpath
        assert here is not None

        def moved(path: str) -> str:
            return os.path.join(here, os.path.basename(path)) if path else path

        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        best = {moved(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(
            state_dict
            | {name: moved(state_dict[name]) for name in paths}
            | {"dirpath": here, "best_k_models": best}
        )
