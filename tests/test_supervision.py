"""Schedules against the worked examples of their source, and weighted losses against hand-worked ones."""

import pytest
import torch

from trm import supervision
from trm.supervision import (
    SCHEDULES,
    adaptive_weights,
    batch_mean,
    cgar_stages,
    curriculum_factor,
    depth_stages,
    schedule_names,
    step_weights,
    weighted_step_loss,
)


@pytest.mark.parametrize(
    "schedule, steps, weight, expected",
    [
        ("none", 3, 0.5, [0, 0, 1]),
        ("constant", 3, 0.5, [0.5, 0.5, 1]),
        ("linear", 3, 0.5, [0.5 / 3, 1 / 3, 1]),  # the source's 0.167, 0.333, 1
        ("linear_decay", 3, 0.5, [0.5 / 3, 1 / 3, 1]),
        ("exponential", 4, 0.5, [0.0625, 0.125, 0.25, 1]),
        ("exponential_decay", 4, 0.5, [0.0625, 0.125, 0.25, 1]),
        ("inverse_u", 5, 0.6, [0, 0.3, 0.6, 0.3, 1]),
        ("last_two", 4, 0.6, [0, 0, 0.6, 1]),
        ("uniform", 3, 0.1, [1, 1, 1]),
        ("ramp", 3, 0.1, [0.3, 0.65, 1]),
        ("exp2", 4, 0.1, [1, 2, 4, 8]),
        ("decay", 3, 0.1, [1, 0.7, 0.49]),
        ("0.2, 0.3, 1", 3, 0.5, [0.2, 0.3, 1]),
        ([0.2, 0.3, 1], 3, 0.5, [0.2, 0.3, 1]),
    ],
)
def test_worked_examples(schedule, steps, weight, expected):
    assert step_weights(schedule, steps, weight) == pytest.approx(expected)


@pytest.mark.parametrize("schedule", list(SCHEDULES))
def test_one_step_has_a_positive_weight(schedule):
    (weight,) = step_weights(schedule, 1, 0.5)
    assert weight > 0


def test_curriculum_table_of_the_guide():
    expected = {0: 0, 1000: 0, 5500: 0.35, 10_000: 0.7, 15_000: 0.7}
    assert {s: 0.7 * curriculum_factor(s, 1000, 10_000) for s in expected} == pytest.approx(expected)
    assert [curriculum_factor(s, 5, 5) for s in (4, 5)] == [0, 1]


def test_curriculum_leaves_the_last_step():
    assert step_weights("constant", 3, 0.5, curriculum=0.5) == [0.25, 0.25, 1]
    assert step_weights("decay", 2, curriculum=0.0) == [0, 0.7]


@pytest.mark.parametrize("bad", ["linaer", "1, 2", "-1, 2, 3", "0, 0, 0"])
def test_what_is_no_schedule_is_refused(bad):
    with pytest.raises(ValueError, match="schedule"):
        step_weights(bad, 3)


def test_a_function_that_the_reader_adds_is_a_schedule(monkeypatch):
    name = "only_first_for_test"
    monkeypatch.setitem(supervision.SCHEDULES, name, lambda n, weight: [weight] + [0.0] * (n - 2) + [1.0])
    assert step_weights(name, 3, 0.4) == [0.4, 0, 1] and name in schedule_names()


def test_adaptive_follows_the_losses_without_gradient():
    losses = torch.tensor([[1.0, 3.0, 4.0]], requires_grad=True)
    weights = adaptive_weights(losses, 0.5)
    torch.testing.assert_close(weights, torch.tensor([[0.5 / 8, 1.5 / 8, 1.0]]))
    assert not weights.requires_grad


def test_weighted_step_loss_by_hand():
    losses = torch.tensor([[2.0, 4.0, 1.0], [1.0, 1.0, 1.0]])
    weights = torch.tensor([0.5, 0.5, 1.0])  # (0.5 * 2 + 0.5 * 4 + 1) / 2 = 2
    torch.testing.assert_close(weighted_step_loss(losses, weights), torch.tensor([2.0, 1.0]))


def test_batch_mean_ignores_a_common_factor_and_survives_zeros():
    values, weights = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([1.0, 0.0, 3.0])
    assert batch_mean(values, weights).item() == pytest.approx(19 / 4)
    assert batch_mean(values, 7 * weights).item() == pytest.approx(19 / 4)
    assert batch_mean(values, 0 * weights).item() == 0


def test_depth_in_stages():
    assert depth_stages("", 100) == []
    assert depth_stages("1x2@0, 2x4@0.3, 3x6@.6", 1000) == [[0, 1, 2], [300, 2, 4], [600, 3, 6]]
    assert depth_stages(cgar_stages(3, 6), 1000) == [[0, 1, 2], [300, 2, 4], [600, 3, 6]]
    assert cgar_stages(2, 2) == "1x1@0, 1x2@0.3, 2x2@0.6" and cgar_stages(1, 1) == "1x1@0, 1x1@0.3, 1x1@0.6"
    for wrong in ("1x2", "1x2@0.1", "1x2@0, 2x2@0", "1x2@0, 2x2@1", "0x2@0", "1x2@0; 2x2@0.5", "1x2@0,"):
        with pytest.raises(ValueError):
            depth_stages(wrong, 100)
