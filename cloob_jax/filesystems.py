"""Storage behind URLs, by fsspec and the libraries of the extras."""

import logging
from typing import Any

_EXTRAS = {"gcs": "gs", "https": "http"}  # where they have another name


def open_url(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it.

    Raises:
      ImportError: a library lacks, which the message names.
    """
    # Only what lies far away needs it.
    import fsspec

    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # its errors are told of here
    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        protocol = url.partition("://")[0]
        extra = _EXTRAS.get(protocol, protocol)
        raise ImportError(f"{error} (pip install 'cloob_jax[{extra}]')") from None
