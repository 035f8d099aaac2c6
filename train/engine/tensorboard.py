"""`--log tensorboard`: curves, texts and pictures in the folder of the model, for `tensorboard --logdir runs`."""

import weakref
from pathlib import Path
from typing import Any

from train.engine.loggers import Values

FLUSH_SECONDS = 10


class TensorBoard:
    """The writer is made at the first step. From there on it hides what an earlier process of the run had written, but
    not before the pictures of the end."""

    def __init__(self, folder: Path):
        from torch.utils.tensorboard import SummaryWriter  # a second to import

        self.folder, self.make = folder, SummaryWriter
        self.writer: Any = None

    def log(self, step: int, values: Values) -> None:
        if self.writer is None:
            ended = any(isinstance(value, Path) for value in values.values())
            self.writer = self.make(str(self.folder), purge_step=None if ended else step, flush_secs=FLUSH_SECONDS)
            weakref.finalize(self, self.writer.close)
        for name, value in values.items():
            if isinstance(value, Path):
                from matplotlib.image import imread

                self.writer.add_image(name, imread(value)[..., :3], step, dataformats="HWC")
            elif isinstance(value, str):
                self.writer.add_text(name, value, step)
            else:
                self.writer.add_scalar(name, value, step)
