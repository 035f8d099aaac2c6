"""The training loop of every job, for models of your own too: `train` takes any `Model` and any `TrainingData`."""

from minitransformer.models.base import Loss, Model
from minitransformer.models.config import Config
from train.engine.loggers import Logger
from train.engine.loop import train
from train.engine.results import finish
from train.engine.settings import LoopOptions
from train.engine.signals import TrainingInterrupted
from train.engine.state import State
from train.engine.training_data import Rows, TrainingData

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
