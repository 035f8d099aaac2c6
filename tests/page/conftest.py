import pytest
from helpers_browser import chromium


@pytest.fixture(scope="session")
def browser():
    """One browser for all tests; each opens pages of its own."""
    with chromium() as browser:
        yield browser
