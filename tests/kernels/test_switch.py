"""The switch of all kernels and of one."""

import os
import subprocess
import sys
import threading

import pytest
import torch

from minitransformer import InputError, kernels

NAME, OTHER = sorted(kernels.NAMES)[:2]


def test_a_kernel_is_off_inside_the_block_that_disables_it_and_on_again_after_an_error():
    assert kernels.enabled(NAME)
    with pytest.raises(KeyError), kernels.disabled(NAME):
        assert not kernels.enabled(NAME) and kernels.enabled(OTHER)
        with kernels.disabled():
            assert not kernels.enabled(OTHER)
        assert kernels.enabled(OTHER)
        raise KeyError
    assert kernels.enabled(NAME)


def test_an_unknown_kernel_is_refused_with_the_names_of_all():
    with (
        pytest.raises(InputError, match=rf"no kernel is named flash: the kernels are .*{NAME}"),
        kernels.disabled("flash"),
    ):
        pass


def test_a_thread_that_disables_kernels_does_so_for_itself_alone():
    seen = []
    thread = threading.Thread(target=lambda: seen.append(kernels.enabled(NAME)))
    with kernels.disabled():
        thread.start()
        thread.join()
    assert seen == [True]


def test_kernels_step_aside_while_an_operation_is_transformed_or_compiled():
    seen = []

    def looking(x):
        seen.append(kernels.enabled(NAME))
        return x.sum()

    x = torch.zeros(2)
    torch.func.grad(looking)(x)
    torch.func.vmap(looking)(x[None])
    torch.func.jvp(looking, (x,), (x,))
    with torch.autograd.forward_ad.dual_level():
        looking(x)
    assert seen == [False] * 4
    compiled = torch.compile(lambda x: x + 1 if kernels.enabled(NAME) else x, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x), x)


def test_the_environment_switches_kernels_off():
    environment = {**os.environ, "MINITRANSFORMER_KERNELS": "0"}
    program = f"from minitransformer import kernels; print(kernels.enabled({NAME!r}))"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
