"""Arms at equal compute, what a step costs, and training on the hard pack."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from tests.conftest import ROOT
from trm.errors import UserError
from trm.flops import applications
from trm.halting import Rule
from trm.params import read_yaml
from trm.puzzles import figures
from trm.puzzles.dataset import PuzzleBatches, load
from trm.puzzles.params import DeepSupervision, Halting, TrmTrain
from trm.puzzles.solve import evaluate, load_model, solve, solve_until
from trm.puzzles.sudoku import digits, random_numbers, tokens, transform, transform_back
from trm.puzzles.train import count_flops, halting_arm, learning_speed, make_model, step_cost, supervision_arm


def test_arms_take_equal_flops():
    params = DeepSupervision.create({"max_steps": 300, "H_cycles": 3, "L_cycles": 2, "curriculum_end_step": 150})
    arms = ("none", "linear", "exponential:0.25", "none/last", "linear/per_cycle", "curriculum")
    own = {arm: supervision_arm(params, arm, 1) for arm in arms}
    deeper = [supervision_arm(params.model_copy(update={"H_cycles": H}), "linear", 1) for H in (2, 6)]
    flops = [count_flops(p)["flops/training"] for p in (*own.values(), *deeper)]
    assert max(flops) < 1.01 * min(flops) and own["none"].max_steps == 300 < own["none/last"].max_steps
    last, weighted, curriculum = (own[arm] for arm in ("none/last", "exponential:0.25", "curriculum"))
    assert (last.schedule, last.backprop, last.seed) == ("none", "last", 1)
    assert (weighted.schedule, weighted.supervision_weight, weighted.backprop) == ("exponential", 0.25, "full")
    assert curriculum.curriculum_enabled and curriculum.schedule == "linear" and own["linear"].supervision_weight == 0.5
    for arm in ("linear:high", "linear:-1/last"):
        with pytest.raises(UserError, match="after the colon stands a supervision_weight"):
            DeepSupervision.create({"arms": arm})


def test_halting_arms_compute_equally_much():
    params = Halting.create({"max_steps": 300, "H_cycles": 3, "L_cycles": 6, "batch_size": 48})
    q, ahead, depth, act = (halting_arm(params, a, 0) for a in ("q", "q_continue", "depth", "act:5e-3"))
    full = applications(3, 6, "full")
    # one step ahead costs another forward pass, 21; the curriculum spends 30 % at 1x2, 30 % at 2x4, 40 % at 3x6
    assert ahead.max_steps * (full + 21) == pytest.approx(300 * full, rel=0.01)
    mean = 0.3 * applications(1, 2, "full") + 0.3 * applications(2, 4, "full") + 0.4 * full
    assert depth.max_steps * mean == pytest.approx(300 * full, rel=0.01)
    assert depth.depth_curriculum == "1x2@0, 2x4@0.3, 3x6@0.6"
    assert act.batch_size * act.halt_max_steps == 48 and act.ponder_coef == 5e-3 and act.halting == "act"
    annealed = halting_arm(params, "annealed", 2)
    assert annealed.halt_exploration_anneal_steps == annealed.max_steps == 300 and annealed.seed == 2
    assert (q.halting, q.max_steps) == ("q", 300)


@pytest.mark.parametrize("puzzle", ["6x6", "9x9"])
def test_with_mixer_houses_a_symmetry_of_the_puzzle_is_one_of_the_answer(puzzle, tmp_path):
    data = load(puzzle, valid_size=8, test_size=8)
    params = TrmTrain.create({"puzzle": puzzle, "mixer": "houses", "hidden_size": 8, "H_cycles": 1})
    model, shape = make_model(params, data).double(), data.test.shape
    with torch.no_grad():
        model.lm_head.weight.normal_()  # far from the start
    uniform = np.random.default_rng(0).random((8, random_numbers(shape)))
    uniform[:, 2] = 0.9  # not transposed: rows and columns have weights of their own
    turned = transform(shape, data.test.questions[:, None], uniform)[:, 0]

    def answers(questions):
        return digits(solve(model, torch.from_numpy(tokens(questions)), 2).predictions[:, -1].numpy())

    plain, moved = answers(data.test.questions), answers(turned)
    assert (transform_back(shape, moved[:, None], uniform)[:, 0] == plain).all()
    assert (plain > 0).all() and len(np.unique(plain)) == shape.size
    model.float().save_pretrained(tmp_path / "model")
    kept = load_model(tmp_path / "model")
    question = torch.from_numpy(tokens(data.test.questions))
    assert torch.equal(solve(kept, question, 2).predictions, solve(model.eval(), question, 2).predictions)


def test_recipes_and_the_sweep_of_mixers_compute_what_they_say():
    def flops(values):
        return count_flops(TrmTrain.create(values))["flops/training"]

    for name, share in (("04_fast", 0.43), ("04_houses", 0.09)):
        assert flops(read_yaml(ROOT / "params" / f"{name}.yaml")) / flops({}) == pytest.approx(share, abs=0.005)
    for name, count in (("mixers_rates", 3), ("mixers", 6)):
        sweep = read_yaml(ROOT / "params" / "sweeps" / f"{name}.yaml")
        cases = [sweep["base"] | {k: v for k, v in case.items() if k != "seeds"} for case in sweep["cases"].values()]
        found = {pack: [flops(case) for case in cases if case["puzzle"] == pack] for pack in ("6x6-hard", "9x9")}
        assert sum(map(len, found.values())) == count
        for pack, wanted in (("6x6-hard", 2.18e12), ("9x9", 8.0e12)):
            assert found[pack] == pytest.approx([wanted] * len(found[pack]), rel=2e-3)


def test_the_model_is_for_the_puzzles_that_were_loaded():
    model = make_model(TrmTrain(), load("4x4", valid_size=2, test_size=2))  # 6x6 in the parameters
    assert (model.config.seq_len, model.config.vocab_size) == (16, 6)


def test_memory_grows_with_backprop_and_shrinks_with_checkpointing():
    data = load("6x6", valid_size=8, test_size=8)
    batch = {k: torch.from_numpy(v) for k, v in PuzzleBatches(data.train, 16)(0).items()}
    megabytes = {}
    for backprop, checkpointing in (("last", False), ("full", False), ("full", True)):
        params = TrmTrain.create(dict(H_cycles=3, backprop=backprop, activation_checkpointing=checkpointing))
        megabytes[backprop, checkpointing] = step_cost(make_model(params, data), batch, rounds=1)["megabytes"]
    assert megabytes["full", False] == pytest.approx(3 * megabytes["last", False], rel=0.2)
    assert megabytes["full", True] < 0.3 * megabytes["full", False]


def test_evaluation_counts_blank_cells_only():
    data = load("6x6", valid_size=8, test_size=8)
    model = make_model(TrmTrain(), data)
    result = evaluate(model, data.test, steps=3, batch_size=5)
    predicted = solve(model, torch.from_numpy(data.test.questions.astype("int64") + 1), 3).predictions[:, -1].numpy()
    blank = data.test.questions == 0
    expected = (predicted == data.test.answers + 1)[blank].mean()
    assert result.metrics("test")["test/cell_accuracy"] == pytest.approx(expected)
    assert result.metrics("test")["test/mean_steps"] == 3  # never sure at the start
    assert result.exact.shape == (8, 3)
    with torch.no_grad():
        last = solve_until(model, torch.from_numpy(tokens(data.test.questions)), Rule("fixed", 3), 3)
    chosen = last.logits.softmax(-1).gather(-1, torch.from_numpy(tokens(data.test.answers))[..., None])[..., 0]
    assert result.metrics("test")["test/loss"] == pytest.approx(
        -chosen.log()[torch.from_numpy(blank)].mean().item(), rel=1e-5
    )


def test_when_a_level_is_reached_is_read_off_straight_lines():
    seen = {10: 0.4, 20: 0.6, 30: 0.5, 40: 0.9}
    records = [{"step": s, "valid/exact_accuracy": a, "valid/loss": 1 - a} for s, a in seen.items()]
    records.insert(1, {"step": 15})
    found, params = learning_speed(records, TrmTrain()), TrmTrain()
    assert (found["steps_to_50"], found["steps_to_90"]) == (pytest.approx(15), pytest.approx(40))
    assert (found["valid/exact_accuracy"], found["valid/loss"]) == (0.9, pytest.approx(0.1))
    share = count_flops(params)["flops/training"] * 15 / params.max_steps
    assert found["flops/to_50"] == pytest.approx(share) and not {"steps_to_95", "flops/to_95"} & set(found)
    assert learning_speed(records[:1], params).keys() == {"valid/exact_accuracy", "valid/loss"}
    assert learning_speed([], params) == {}


def test_chapter_04_trains_on_the_hard_pack(tmp_path):
    chapter, smoke = (str(ROOT / name) for name in ("book/04_trm_train.py", "params/04_smoke.yaml"))
    options = ["-f", smoke, "-p", "puzzle", "6x6-hard", "-p", "output_dir", str(tmp_path)]
    subprocess.run([sys.executable, chapter, *options], check=True, capture_output=True)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    hard = load("6x6-hard", valid_size=16, test_size=32)
    assert metrics["train/puzzles"] == len(hard.train) == 7984 and metrics["test/puzzles"] == 32
    assert count_flops(TrmTrain.create({"puzzle": "6x6-hard"})) == count_flops(TrmTrain())


def test_a_figure_of_cycles_is_drawn_where_nothing_was_logged():
    table = pd.DataFrame({"arm": ["none"], "seed": [0], "train/supervised_loss": [None]})
    assert [ax.get_yscale() for ax in figures.cycles_of_arms(table, 3).axes] == ["linear", "linear"]
