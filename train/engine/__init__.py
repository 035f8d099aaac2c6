"""The training loop of every job, for models of your own too: `train` takes any `Model` and any `TrainingData`."""

from minitransformer.models.base import Loss, Model
from minitransformer.models.config import Config
from train.engine.loggers import Logger
from train.engine.loop import TrainingData, train
from train.engine.results import finish
from train.engine.rows import Rows
from train.engine.settings import LoopOptions
from train.engine.signals import TrainingInterrupted
from train.engine.state import State

__all__ = [
    "Config",
    "Logger",
    "LoopOptions",
    "Loss",
    "Model",
    "Rows",
    "State",
    "TrainingData",
    "TrainingInterrupted",
    "finish",
    "train",
]
