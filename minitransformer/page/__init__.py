"""The attention page: every head of every layer of any model, in one HTML file that needs nothing else."""

from minitransformer.page.page import attention_page
from minitransformer.page.views import Grid, Step, View, as_bytes, grids_of

__all__ = ["Grid", "Step", "View", "as_bytes", "attention_page", "grids_of"]
