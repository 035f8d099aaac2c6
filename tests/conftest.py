import gc
import shutil
from contextlib import suppress

import jaxtyping
import pytest
import torch
from hypothesis import HealthCheck, settings

from minitransformer.data.cache_folder import cache_folder, discard

# How long an example takes depends on what else the machine does. Every run draws others.
settings.register_profile("suite", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

# What is imported stays. Otherwise the garbage collector goes through all of it again and again, which takes four or
# five seconds of every process before its first test.
gc.disable()


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def seed():
    """Random numbers are the same in every run, whatever ran before."""
    torch.manual_seed(0)


@pytest.fixture
def as_users_run_it(monkeypatch):
    """Without shapes and types checked at every call. The checks would find a wrong value before our own do, and take
    half of the time of a training run and more of decoding. So runs of which tests compare the bits go without, and so
    does decoding that tests compare with a slow way to write the same. Fixtures of a wider scope, such as the run that
    the tests of a job share, are checked."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(autouse=True, scope="session")
def session_cache(tmp_path_factory):
    """Tests fill a cache folder of their own. Only packages are shared with the user's: each is downloaded once."""
    users, folder = cache_folder(), tmp_path_factory.mktemp("cache")
    for package in users.glob("[!.]*-[0-9]*"):
        (folder / package.name).symlink_to(package)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINITRANSFORMER_CACHE", str(folder))
        yield
    users.mkdir(parents=True, exist_ok=True)
    for package in folder.glob("[!.]*-[0-9]*"):
        if not package.is_symlink():
            with suppress(OSError):  # another worker has put it there
                shutil.copytree(package, unfinished := users / f".{folder.name}-{package.name}")
                discard(users / package.name)
                unfinished.rename(users / package.name)
