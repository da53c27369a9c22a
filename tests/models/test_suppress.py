"""What libraries say, kept from the user."""

import io
import logging
import sys
import warnings

import pytest

from models.suppress import suppress_output


def test_a_log_that_kept_its_stream_is_not_shown() -> None:
    """As PyTorch's, whose handler was made when it was imported."""
    stream, log = io.StringIO(), logging.getLogger("tests.models.suppress")
    log.addHandler(handler := logging.StreamHandler(stream))
    try:
        with suppress_output():
            log.warning("is not installed. Skipping")
            print("printed")
            print("complained", file=sys.stderr)
            warnings.warn("warned", stacklevel=1)
        assert stream.getvalue() == ""
        log.warning("after it")
        assert stream.getvalue() == "after it\n"
    finally:
        log.removeHandler(handler)


@pytest.mark.parametrize("before", [logging.NOTSET, logging.ERROR])
def test_what_was_disabled_before_is_disabled_after_it(before: int) -> None:
    def breaks() -> None:
        with suppress_output():
            assert logging.root.manager.disable == max(before, logging.WARNING)
            raise RuntimeError

    logging.disable(before)
    try:
        with pytest.raises(RuntimeError):
            breaks()
        assert logging.root.manager.disable == before
    finally:
        logging.disable(logging.NOTSET)
