"""Solving: batch mates, order and company change nothing, and a rule gives what full depth gave at its step."""

import pytest
import torch

from trm.errors import UserError
from trm.halting import SIGNALS, Rule
from trm.puzzles.solve import evaluate, solve, solve_until, validity_check
from trm.puzzles.sudoku import digits, tokens

STEPS = 8


@pytest.fixture(scope="module")
def inputs(puzzles):
    return torch.from_numpy(tokens(puzzles.questions))


@pytest.fixture(scope="module")
def full(model, inputs, puzzles):
    """All steps of all puzzles."""
    return solve(model, inputs, STEPS, check=validity_check(puzzles.shape))


@pytest.mark.parametrize(
    "rule",
    [Rule("q_halt", 0.0), Rule("entropy", 0.22), Rule("stable", 2), Rule("residual", 0.25), Rule("fixed", 5),
     Rule("halt_probability", 0.9), Rule("is_valid", 1.0)],
    ids=lambda rule: rule.signal,
)  # fmt: skip
def test_leaving_the_batch_changes_no_answer(model, inputs, puzzles, full, rule):
    check = validity_check(puzzles.shape)
    for batch_size in (512, 7):  # all at once; a few at a time, with others taking the places of those that stop
        halted = solve_until(model, inputs, rule, STEPS, check=check, batch_size=batch_size)
        assert (halted.steps == rule.steps(full.signals[rule.signal])).all()
        rows = torch.arange(len(inputs))
        assert (halted.predictions == full.predictions[rows, halted.steps - 1]).all()
        for name, value in halted.signals.items():
            torch.testing.assert_close(value, full.signals[name][rows, halted.steps - 1], rtol=1e-3, atol=1e-3)
    assert rule.signal == "fixed" or 1 < halted.steps.float().mean() < STEPS  # the rule did something


def test_a_puzzle_is_answered_the_same_alone_in_a_batch_and_in_a_shuffled_batch(model, inputs):
    rule = Rule("q_halt", 0.0)
    together = solve_until(model, inputs, rule, STEPS)
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    shuffled = solve_until(model, inputs[order], rule, STEPS, batch_size=11)
    assert (shuffled.steps == together.steps[order]).all()
    assert (shuffled.predictions == together.predictions[order]).all()
    torch.testing.assert_close(shuffled.logits, together.logits[order], rtol=1e-4, atol=1e-4)
    for row in (0, 17, 39):
        alone = solve_until(model, inputs[row : row + 1], rule, STEPS)
        assert alone.steps.item() == together.steps[row]
        torch.testing.assert_close(alone.logits[0], together.logits[row], rtol=1e-4, atol=1e-4)


def test_no_more_work_is_done_than_steps_are_taken(model, inputs):
    """The network sees every example once a step until it stops, and never again."""
    seen = []
    with model.net.register_forward_hook(lambda module, given, out: seen.append(len(out))):
        halted = solve_until(model, inputs, Rule("q_halt", 0.0), STEPS)
    c = model.config
    assert sum(seen) == int(halted.steps.sum()) * c.H_cycles * (c.L_cycles + 1)


def test_signals_by_their_definitions(model, inputs, puzzles):
    thoughts = solve(model, inputs, 6, check=validity_check(puzzles.shape))
    assert set(thoughts.signals) == set(SIGNALS) - {"random"}
    p = thoughts.signals["q_halt"].sigmoid()
    halted = 1 - (1 - p).cumprod(1)
    torch.testing.assert_close(thoughts.signals["halt_probability"], halted, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(thoughts.signals["halt_mass"], p.cumsum(1), rtol=1e-4, atol=1e-6)
    same = (thoughts.predictions[:, 1:] == thoughts.predictions[:, :-1]).all(-1)
    for row in range(len(inputs)):
        run = 0
        for step in range(1, 6):
            run = run + 1 if same[row, step - 1] else 0
            assert thoughts.signals["stable"][row, step] == run
    right = (digits(thoughts.predictions.numpy()) == puzzles.answers[:, None]).all(-1)
    assert (thoughts.signals["is_valid"].numpy() == right).all()  # one solution: what obeys the rules is right


def test_a_rule_that_cannot_be_followed_is_refused(model, inputs):
    for signal in ("is_valid", "random"):
        with pytest.raises(ValueError, match=f"no signal '{signal}' while solving"):
            solve_until(model, inputs, Rule(signal, 1.0))
    with pytest.raises(ValueError, match="no examples"):
        solve_until(model, inputs[:0], Rule("fixed", 3))


@pytest.mark.parametrize(
    "spoil, says",
    [
        (lambda t: t[0], r"\(B, {T}\); these are \({T},\); a single puzzle is inputs\[None\]"),
        (lambda t: t[:, :-1], r"\(B, {T}\); these are \(\d+, \d+\)$"),
        (lambda t: t.float(), r"these are float32; inputs.long\(\) makes them whole"),
        (lambda t: t + 40, r"from 0 to \d+, \(B, {T}\); these go from 4\d to 4\d"),
        (lambda t: t - 40, r"these go from -\d+ to -\d+"),
    ],
)
def test_tensors_that_are_not_token_ids_are_refused_in_words(model, inputs, spoil, says):
    for ask in (lambda t: solve(model, t, 1), lambda t: solve_until(model, t, Rule("fixed", 1), 1)):
        with pytest.raises(UserError, match=says.replace("{T}", str(inputs.shape[1]))):
            ask(spoil(inputs))
    with pytest.raises(UserError, match="puzzle_ids of whole numbers from 0 to 0, .* these go from 7 to 7"):
        solve(model, inputs, 1, torch.full((len(inputs),), 7))
    with pytest.raises(UserError, match=r"puzzle_ids .*; these are \(1,\)"):
        solve(model, inputs, 1, torch.zeros(1, dtype=torch.long))


def test_evaluation_agrees_with_solve(model, puzzles, inputs):
    result = evaluate(model, puzzles, 4, batch_size=13)
    thoughts = solve(model, inputs, 4)
    assert (result.predictions == thoughts.predictions.numpy()).all()
    share, steps = result.halted(Rule("fixed", 3))
    assert steps == 3 and share == result.exact_by_step[2]
