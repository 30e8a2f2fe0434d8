"""A disk that is full, as far as this process can tell."""

import contextlib
import resource


@contextlib.contextmanager
def small_files_only(num_bytes):
    """Writing past `num_bytes` into any file fails, as on a full disk, for a while."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
