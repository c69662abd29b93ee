"""Settings for checking the stored outputs: `pytest --nbval notebooks`."""

from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """nbval compares what notebooks print. The bytes of a picture differ between versions of matplotlib."""
    if config.getoption("nbval", default=False):
        config.option.nbval_sanitize_with = str(Path(__file__).parents[1] / "tests" / "nbval.cfg")
