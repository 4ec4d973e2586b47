"""The campaigns in small; `kills.py` and `full_disk.py` run them whole."""

import pytest

from tests.campaigns import full_disk, kills

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("only", ["05", "sweep"])
def test_killed_at_random_moments_and_resumed(only):
    assert "all equal" in kills.campaign(2, 0, [only])[0]


def test_a_full_disk_at_some_writes():
    assert "0 faults" in full_disk.campaign(["04"], every=15)[0]
