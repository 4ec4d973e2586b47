"""The 6x6 model that ships, and forty puzzles of its test part."""

import pytest

from trm.puzzles.dataset import load
from trm.puzzles.solve import shipped_model


@pytest.fixture(scope="session")
def model():
    return shipped_model("6x6")[0]


@pytest.fixture(scope="session")
def puzzles():
    return load("6x6", valid_size=8, test_size=40).test
