"""Halting rules on evaluations small enough to count by hand, and what is loaded for them."""

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file, save_file

from trm.checkpoint import PRETRAINED
from trm.errors import UserError
from trm.halting import Rule
from trm.model import TRM, TRMConfig
from trm.puzzles import halting_study as study
from trm.puzzles.attempts import RetryResult
from trm.puzzles.dataset import load
from trm.puzzles.params import Halting
from trm.puzzles.solve import Evaluation, load_model, load_unseen, model_and_training, shipped_model


def made(right_from, q):
    """Puzzles of one cell that are right from a given step on (0: never), and their halting logits (N, S)."""
    q = np.asarray(q, np.float32)
    steps = np.arange(1, q.shape[1] + 1)
    correct = (np.asarray(right_from)[:, None] <= steps) & (np.asarray(right_from)[:, None] > 0)
    signals = {"q_margin": q, "q_halt": q, "fixed": np.broadcast_to(steps, q.shape).astype(np.float32)}
    signals["loss"] = np.zeros_like(q)
    return Evaluation(np.zeros((*q.shape, 1), np.int64), np.ones((len(q), 1), bool), correct[:, :, None], signals)


# four puzzles, three steps: right from step 1, 2, 3 and never; the head is sure one step late for the second
FOUR = made([1, 2, 3, 0], [[2, 3, 3], [-1, 0, 3], [-2, -1, 1], [-3, -2, -1]])


def test_counts_by_hand():
    assert FOUR.exact_by_step.tolist() == [0.25, 0.5, 0.75]
    assert FOUR.steps(Rule("q_margin", 0.5)).tolist() == [1, 3, 3, 3]
    assert FOUR.halted(Rule("q_margin", 0.5)) == (0.75, 2.5)
    assert FOUR.halted(Rule("q_margin", -0.5)) == (0.75, 2.25)
    assert FOUR.metrics("t")["t/mean_steps"] == 2.25  # at zero, the second stops at step 2


def test_the_cheapest_rule_within_the_tolerance():
    rule = study.choose_threshold(FOUR, "q_margin", 0.0)
    assert FOUR.halted(rule) == (0.75, 2.25)
    assert FOUR.halted(study.choose_threshold(FOUR, "q_margin", 0.5)) == (0.25, 1.0)
    chosen = study.choose_thresholds(FOUR, 0.0)
    assert set(chosen) == {"q_halt", "q_margin"} and chosen["q_margin"] == rule  # signals not there are passed over
    hopeless = made([3, 3], [[5, 5, 5], [5, 5, 5]])
    assert hopeless.halted(study.choose_threshold(hopeless, "q_margin", 0.0)) == (1.0, 3.0)  # never early


def test_fixed_depth_between_two_depths_is_a_mixture():
    assert study.fixed_depth_at(FOUR, 2.0) == 0.5
    assert study.mixture_at(FOUR, 2.25).tolist() == [1, 1, 0.25, 0]
    assert study.mixture_at(FOUR, 2.25).mean() == study.fixed_depth_at(FOUR, 2.25)
    assert study.mixture_at(FOUR, 3.0).tolist() == [1, 1, 1, 0]


def test_the_shallowest_depth_that_is_as_accurate():
    assert [study.shallowest_depth(FOUR, share) for share in (0.0, 0.25, 0.3, 0.75, 0.9)] == [1, 1, 2, 3, 3]


def test_accuracy_between_two_thresholds_is_on_the_line():
    curve = pd.DataFrame({"mean_steps": [3.0, 1.0, 1.0, 2.0], "accuracy": [0.9, 0.1, 0.2, 0.6]})
    assert study.accuracy_at(curve, 1.5) == pytest.approx(0.4), "from the better of two thresholds at one step"
    assert study.accuracy_at(curve, 9.0) == 0.9


def test_what_it_knew_after_fewer_steps():
    early = FOUR.until(2)
    assert early.exact_by_step.tolist() == [0.25, 0.5] and early.signals["q_halt"].shape == (4, 2)
    assert early.halted(Rule("q_margin", 0.5)) == (0.5, 1.75)
    assert FOUR.until(9).exact_by_step.tolist() == FOUR.exact_by_step.tolist()


def test_rules_are_compared_at_equal_steps():
    rows = {
        "seed": [0, 1],
        "taught_mean_steps": [2.0, 3.0],
        "taught_accuracy": [0.5, 0.8],
        "taught_permuted": [0.4, 0.5],
    }
    rows |= {"taught_fixed_same_steps": [0.6, 0.6], "taught_entropy_same_steps": [0.7, 0.9]}
    line = pd.DataFrame({"mean_steps": [1.0, 2.5, 3.0], "accuracy": [0.1, 0.7, 0.6]})
    front = pd.concat(line.assign(seed=s, rule=rule) for s in (0, 1) for rule in ("q_halt", "entropy"))
    table = pd.DataFrame(rows).assign(arm="act:1", cap=6)
    found = study.compare_rules(table, front).loc["act:1"]
    assert found["", "mean_steps"] == 2.5 and found["", "accuracy"] == pytest.approx(0.65)
    effects = [found[rule, "effect"] for rule in [*study.SAME_MODEL, *study.ARM_Q]]
    assert effects == pytest.approx([0.05, 0.2, -0.15, 0.05, 0.05])  # 0.5 and 0.8 against 0.5 and 0.7 of arm q
    early = table.assign(taught_mean_steps=[1.5, 2.5], taught_accuracy=0.0)  # no entropy after one step
    late = table.assign(taught_mean_steps=6.0, taught_accuracy=0.0)
    other = table.assign(arm="act_alone")
    found = study.compare_methods(pd.concat([table, early, late, other]), ["act:", "ponder"])
    assert found["runs"].tolist() == [4, 4, 3] and set(found["seeds"]) == {2}
    assert found["effect"].tolist() == pytest.approx([-0.275, -0.125, -0.35])
    # fixed: (0.25 - 0.6 + 0.4 - 0.6) / 2; shuffled: (0.25 - 0.4 + 0.4 - 0.5) / 2; entropy: (0.5 - 0.7 + 0.4 - 0.9) / 2


def test_names_tell_what_was_given():
    table = pd.DataFrame(
        {"arm": ["q", "act:0.01", "ponder:0.1"], "halting_bias": [None, 0.0, None], "ponder_prior": [0.2, 0.2, 0.4]}
    )
    assert study.arm_names_in_full(table).tolist() == ["q", "act:0.01 (bias 0)", "ponder:0.1 (prior 0.4)"]


def test_almost_solved_puzzles_keep_their_answers():
    puzzles = load("6x6", test_size=40).test
    for blanks in (0, 1, 5, 40):
        part = study.with_blanks(puzzles, blanks, 0)
        empty = part.questions == 0
        assert (empty.sum(1) == np.minimum(blanks, (puzzles.questions == 0).sum(1))).all()
        assert (empty <= (puzzles.questions == 0)).all() and (part.questions[~empty] == part.answers[~empty]).all()
    model, _ = shipped_model("6x6")
    table = study.blanks_table(model, puzzles, "x", 0, 2)
    assert list(table["blanks"]) == ["0", "1", "2", "5", "10", "20", "all"] and table["accuracy"].iloc[0] == 1


def test_restarts_as_rows_of_the_curve():
    by_try = [(0.5, 4.0), (0.7, 6.0), (0.75, 7.0)]
    rows = study.retry_rows(RetryResult(None, None, None, None, None, by_try), "x", 3, 16)
    assert rows[["tries", "compute", "accuracy"]].to_numpy().tolist() == [[1, 4.0, 0.5], [2, 6.0, 0.7], [3, 7.0, 0.75]]
    assert set(rows["kind"]) == {"until valid"} and set(rows["steps"]) == {16}


def test_the_permutation_control_knows_nothing():
    steps = np.array([1, 3, 3, 3])
    # each puzzle gets step 1 with chance 1/4: right in all cases, 3/4, 3/4, never
    assert study.permutation_control(FOUR, steps, rounds=4000) == pytest.approx((1 + 0.75 + 0.75 + 0) / 4, abs=0.01)


def test_curve_reaches_both_ends():
    found = study.rule_curve(FOUR, "q_margin")
    few = study.subsample_curve(found, 3)
    assert few["mean_steps"].iloc[[0, -1]].tolist() == [1.0, 3.0] and len(few) == 3


def test_calibration_against_a_known_law():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=4000) * 2
    right = rng.random(4000) < 1 / (1 + np.exp(-logits))
    table, numbers = study.calibration(logits, right)
    assert numbers["ece"] < 0.03 and table["count"].sum() == 4000
    assert study.calibration(logits + 3, right)[1]["ece"] > 0.2
    assert np.isnan(study.calibration(logits, np.ones(4000, bool))[1]["auroc"])


def test_paired_gain_by_hand():
    before, after = np.array([1, 0, 0, 0, 1], bool), np.array([1, 1, 1, 0, 0], bool)
    gain, low, high = study.paired_gain(before, after)
    difference = np.array([0, 1, 1, 0, -1])
    assert gain == pytest.approx(0.2) and high - low == pytest.approx(2 * 1.96 * difference.std(ddof=1) / 5**0.5)


def test_a_shipped_model_is_not_tested_on_what_it_was_trained_on():
    model, training = shipped_model("6x6")
    assert sum(p.numel() for p in model.parameters()) == 23169
    data = load_unseen(training, Halting())
    assert (len(data.valid), len(data.test)) == (1000, 2000)
    some = load_unseen(training, Halting.create({"seed": 1, "valid_size": 10, "test_size": 20}))
    for part, size in (("valid", 10), ("test", 20)):  # of the same split, whatever the seed
        questions, chosen = (getattr(d, part).questions for d in (data, some))
        assert len(chosen) == size and (chosen[:, None] == questions).all(-1).any(1).all()
        assert (chosen[-1] == questions[-1]).all(), "from first to last"
    with pytest.raises(
        UserError, match="a part of these puzzles; give valid_size at most 1000 and test_size at most 2000"
    ):
        load_unseen(training, Halting.create({"valid_size": 1001}))
    hard = {"puzzle": "6x6-hard", "data_path": "", "seed": 1, "valid_size": 9, "test_size": 9}
    other = load_unseen(hard, Halting())  # another pack, another split
    assert (len(other.valid), len(other.test)) == (1000, 2000) and (other.valid.questions == data.valid.questions).all()
    assert (load_unseen({}, Halting()).test.questions == data.test.questions).all()  # nothing is known of its training


def test_a_list_that_is_one_of_those_trained_on_is_split_as_it_was_then(tmp_path):
    pack = load("9x9", valid_size=1, test_size=60).test
    paths = [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]
    for i, path in enumerate(paths):
        rows = [("".join(map(str, q)), "".join(map(str, a))) for q, a in zip(pack.questions[i::2], pack.answers[i::2])]
        pd.DataFrame(rows, columns=["question", "answer"]).to_csv(path, index=False)
    training = {"data_path": "elsewhere/a.csv, elsewhere/b.csv", "seed": 3, "valid_size": 4, "test_size": 6}
    trained = load("9x9", ", ".join(paths), valid_size=4, test_size=6, seed=3).train.questions
    for path in paths:
        found = load_unseen(training, Halting.create(dict(puzzle="9x9", data_path=path, valid_size=3, test_size=5)))
        for part in (found.valid, found.test):
            assert not (part.questions[:, None] == trained).all(-1).any()
    with pytest.raises(UserError, match="valid_size at most 4 and test_size at most 6"):
        load_unseen(training, Halting.create(dict(puzzle="9x9", data_path=paths[1], valid_size=3, test_size=7)))


def test_the_noise_that_restarts_need_is_chosen_on_the_validation_puzzles(monkeypatch):
    solved = {0.5: 0.2, 1.0: 0.6, 2.0: 0.6}
    asked = []

    def retry(model, puzzles, tries, steps, seed, noise):
        asked.append((len(puzzles), tries, steps))
        return RetryResult(None, None, None, None, None, [(0.0, 1.0), (solved[noise], 9.0)])

    monkeypatch.setattr(study, "retry_until_valid", retry)
    valid = load("6x6", valid_size=5, test_size=5).valid
    found = study.choose_noise(Halting(noises="0.5, 1,2", restarts=3, retry_steps=7), None, valid)
    assert found["noise"].tolist() == [1.0, 2.0, 0.5] and asked == [(5, 3, 7)] * 3
    assert study.choose_noise(Halting(), None, valid)["noise"].tolist() == [0.0], "from other symmetries"


def test_a_model_that_does_not_fit_or_is_not_there_is_said(tmp_path):
    params = Halting.create({"puzzle": "9x9", "model_path": str(PRETRAINED / "sudoku_6x6")})
    with pytest.raises(UserError, match="is for 36 cells and 8 tokens, and puzzles of 9x9 have 81 and 11"):
        model_and_training(params)
    with pytest.raises(UserError, match="holds no model"):
        load_model(tmp_path)
    with pytest.raises(UserError, match="no/where: no such folder"):
        load_model("no/where")
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    TRM(TRMConfig(hidden_size=16, vocab_size=8, seq_len=36)).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["embed"]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="holds no model"):
        load_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(UserError, match="holds no model"):
        load_model(tmp_path)
