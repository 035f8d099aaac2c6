"""Names of files in the cache folder."""

import hashlib


def file_name(name: str, suffix: str) -> str:
    """A short one for a text that says all there is to say about what the file holds."""
    return f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.{suffix}"
