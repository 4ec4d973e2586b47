"""Batches made ahead: the same ones, in order, and made while others are used."""

import threading

import pytest

from trm.trainer import Prefetcher


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_the_same_things_come_whatever_is_made_ahead(depth):
    made = []
    ahead = Prefetcher(lambda step: made.append(step) or step**2, depth, end=7)
    assert [ahead(step) for step in range(2, 7)] == [4, 9, 16, 25, 36]
    ahead.close()
    assert made == [2, 3, 4, 5, 6], "each once, and none after the end"


def test_the_next_is_made_while_this_one_is_used():
    second = threading.Event()
    ahead = Prefetcher(lambda step: second.set() if step == 1 else None, depth=1, end=2)
    ahead(0)
    assert second.wait(timeout=10), "nobody asked for step 1"
    ahead.close()


def test_a_fault_is_raised_where_it_belongs():
    def make(step):
        if step == 1:
            raise ValueError("bad batch")
        return step

    ahead = Prefetcher(make, depth=2, end=5)
    assert ahead(0) == 0
    with pytest.raises(ValueError, match="bad batch"):
        ahead(1)
    ahead.close()


def test_training_is_the_same_with_and_without(tmp_path):
    from tests.test_trainer import assert_same, numbers, trainer_for
    from trm.puzzles.dataset import load

    data = load("6x6", valid_size=16, test_size=32)
    for depth in (0, 3):
        trainer = trainer_for(tmp_path / str(depth), data, prefetch=depth, max_steps=20)
        trainer.fit()
        assert trainer.examples == 20 * 16 and trainer.parts.pool is None
    assert_same(numbers(tmp_path / "0"), numbers(tmp_path / "3"))
