"""The campaigns, in small."""

import random

import pytest

from tests.campaigns.mutated_files import campaign, mutated


@pytest.mark.slow
def test_every_reader_answers_or_refuses_in_a_line():
    figures, faults = campaign(60, seed=0)
    assert not faults and len(figures) == 21 and all(sum(found.values()) == 4 for found in figures.values())


def test_mutations_change_a_file_and_depend_on_the_seed_alone():
    whole = b'{"a": 1}\n{"b": [2, 3]}\n' * 5
    one, two = ([mutated(whole, random.Random(seed)) for seed in range(40)] for _ in range(2))
    assert one == two and sum(text != whole for text in one) > 30
