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


def test_what_it_knew_after_fewer_steps():
    early = FOUR.until(2)
    assert early.exact_by_step.tolist() == [0.25, 0.5] and early.signals["q_halt"].shape == (4, 2)
    assert early.halted(Rule("q_margin", 0.5)) == (0.5, 1.75)
    assert FOUR.until(9).exact_by_step.tolist() == FOUR.exact_by_step.tolist()


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
        return RetryResult(None, None, None, [(0.0, 1.0), (solved[noise], 9.0)])

    monkeypatch.setattr(study, "retry_until_valid", retry)
    valid = load("6x6", valid_size=5, test_size=5).valid
    found = study.choose_noise(Halting(noises="0.5, 1,2", restarts=3, retry_steps=7), None, valid)
    assert found["noise"].tolist() == [1.0, 2.0, 0.5] and asked == [(5, 3, 7)] * 3
    assert study.choose_noise(Halting(), None, valid)["noise"].tolist() == [0.0], "from other symmetries"


def test_a_model_that_does_not_fit_or_is_not_there_is_said(tmp_path):
    params = Halting.create({"puzzle": "9x9", "model_path": str(PRETRAINED / "sudoku_6x6")})
    with pytest.raises(UserError, match="is for 36 cells, and puzzles of 9x9 have 81"):
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
