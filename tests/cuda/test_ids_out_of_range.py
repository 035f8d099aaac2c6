"""An id that a model does not know is an `InputError` on a GPU too, after which the GPU works on.

Torch's own assertion there ends every later operation of the program.
"""

import pytest
import torch
from helpers_kinds import batch_for
from helpers_models import fresh_gpt
from models.test_ids_out_of_range import (  # noqa: F401 - collected here once more
    test_a_step,
    test_ids_of_targets,
    test_ids_that_a_model_reads,
    test_labels,
    test_masked_tokens_to_restore,
    test_segments,
    test_the_last_id_of_a_text_is_a_target_alone,
)


@pytest.fixture(autouse=True)
def on_gpu():
    """Every model and every tensor is made on the GPU."""
    with torch.device("cuda"):
        yield
        assert torch.ones(3).sum().item() == 3


def test_a_step_can_be_captured_in_a_graph():
    """A look at the ids would wait, which a capture does not allow."""
    model, ids = fresh_gpt(), batch_for("gpt")["ids"]
    assert ids.is_cuda
    side = torch.cuda.Stream()
    with torch.cuda.stream(side), torch.no_grad():
        model(ids)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph), torch.no_grad():
        logits = model(ids)
    graph.replay()
    torch.cuda.synchronize()
    with torch.no_grad():
        torch.testing.assert_close(logits, model(ids))
