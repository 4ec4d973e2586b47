"""States before and after thinking: what they answer, distances against an independent computation, baselines."""

from itertools import islice

import numpy as np
import pandas as pd
import pytest
import torch

from tests.latent.test_evaluate import FROZEN, SOME, thinking
from trm.language.stories import problems
from trm.latent import figures as plots
from trm.latent.data import Data, encode, from_problem
from trm.latent.state_map import baseline_distances, block_applications, map_rows, state_distances, states_after
from trm.latent.swap import replaced, swap_test
from trm.latent.thinking import Thinking

ENCODED = encode(FROZEN, SOME, 2)


def test_the_head_reads_the_answer_off_the_state_after_thinking():
    states = states_after(FROZEN, ENCODED, 3)
    assert torch.allclose(states, states_after(FROZEN, ENCODED, 8), atol=1e-4)
    read = FROZEN.head(states).argmax(-1)
    chains = Thinking(FROZEN, None, 40).without(SOME, True)
    right = [token == one.answer[0] for token, one in zip(read.tolist(), ENCODED)]
    assert sum(right) >= 7 and chains.accuracy >= 0.75


def test_a_prediction_of_the_mean_has_distance_one_and_a_perfect_one_zero():
    way, states = thinking(readout="state"), states_after(FROZEN, ENCODED, 8)
    way.reasoner.set_target(states)
    torch.nn.init.zeros_(way.reasoner.after.weight)
    torch.nn.init.zeros_(way.reasoner.after.bias)
    assert state_distances(way, ENCODED, 3) == pytest.approx(3 * [1.0], abs=1e-5)
    way.reasoner.after.bias.data = (states[2] - way.reasoner.after_mean) / way.reasoner.after_scale
    thought = torch.zeros(1, 2, 16)
    assert way.reasoner.distance(thought, states[2:3]).item() == pytest.approx(0, abs=1e-10)
    variance = states.numpy().var(0).mean()
    by_hand = ((states[2] - states[5]) ** 2).mean().item() / variance
    assert way.reasoner.distance(thought, states[5:6]).item() == pytest.approx(by_hand, rel=1e-4)
    assert way.from_state(SOME[2:3]).texts == [
        Thinking(FROZEN, None, 40).without(SOME[2:3], True).texts[0].split("</think>")[1]
    ]


def test_baselines_are_the_mean_and_ridge_regression():
    train = encode(FROZEN, [from_problem(one) for one in islice(problems("train", 1, 2, 4), 60)], 2)
    found = baseline_distances(FROZEN, train, ENCODED, 16)
    known, true = states_after(FROZEN, train, 8).numpy(), states_after(FROZEN, ENCODED, 8).numpy()
    by_hand = ((known.mean(0) - true) ** 2).mean() / known.var(0).mean()
    assert found["constant"][0] == pytest.approx(by_hand, rel=1e-4) and set(found) == {"constant", "ridge"}
    assert all(0 <= right <= 1 for _, right in found.values())


@pytest.mark.parametrize("recursion, calls", [(True, 6), (False, 1)])
def test_a_network_without_recursion_is_applied_once(monkeypatch, recursion, calls):
    way = thinking(recursion=recursion)  # three H-cycles of one L-cycle
    count, block = [], way.reasoner.blocks[0]
    monkeypatch.setattr(block, "forward", lambda *given, call=block.forward: count.append(1) or call(*given))
    thoughts = way.thoughts(way.read(SOME))
    assert len(count) == calls and len(thoughts) == (3 if recursion else 1)
    row = {name: getattr(way.reasoner.config, name) for name in ("H_cycles", "L_cycles", "num_layers", "recursion")}
    assert block_applications(pd.DataFrame([row, dict.fromkeys(row)]))[0] == calls


def test_the_figure_of_the_map_draws_networks_by_their_depth():
    common = {"seed": 0, "distance": 0.5, "accuracy": 0.4, "L_cycles": 1, "num_layers": 1, "recursion": True}
    baselines = [{"predictor": name, "seed": 0, "distance": 1.0, "accuracy": 0.1} for name in ("constant", "ridge")]
    networks = [common | {"predictor": "state", "H_cycles": H, "distance": 0.5 / H} for H in (1, 2, 4)]
    once = common | {"predictor": "state_once", "H_cycles": 4, "num_layers": 8, "recursion": False}
    axes = plots.state_map(pd.DataFrame([*baselines, *networks, once])).axes
    drawn = {box.get_label(): box.lines[0].get_xydata().tolist() for box in axes[0].containers}
    assert drawn["one block, recursive"] == [[2, 0.5], [4, 0.25], [8, 0.125]]
    assert drawn["other blocks, no recursion"] == [[8, 0.5]]
    assert block_applications(pd.DataFrame(baselines)).isna().all()


def test_a_swap_replaces_the_slots_that_it_names():
    own = torch.arange(24.0).view(3, 4, 2)
    found = replaced(None, own, [1, 3], "other")
    assert torch.equal(found[:, [0, 2]], own[:, [0, 2]]) and torch.equal(found[1, [1, 3]], own[0, [1, 3]])
    assert torch.equal(replaced(None, own, [2], "mean")[:, 2], own[:, 2].mean(0).expand(3, -1))


def test_swaps_name_whose_answer_comes_out():
    some = [one for one in (from_problem(p) for p in islice(problems("test", 9, 2, 4), 60)) if one.steps == 2][:8]
    way = thinking(num_latents=3)
    rows = swap_test(way, some)
    assert [(row["slots"], row["by"]) for row in rows] == [
        ("none", "own"), ("1", "other"), ("1", "mean"), ("2", "other"), ("2", "mean"), ("3", "other"), ("3", "mean"),
        ("steps", "other"), ("steps", "mean"), ("answer", "other"), ("answer", "mean"),
    ]  # fmt: skip
    assert all(np.isfinite(row["accuracy"]) and row["problems"] == 8 for row in rows)
    copies = [*some[-1:], *some[:-1]]
    way.with_latents = lambda some, change: way.answers_in(
        some, torch.tensor([[encode(FROZEN, [c], 3)[0].answer[0]] for c in copies]), True
    )
    other = swap_test(way, some)[1]
    assert other["other_answer"] == 1


def test_rows_of_the_map_hold_what_their_parts_compute(monkeypatch):
    way = thinking(readout="state")
    way.reasoner.set_target(states_after(FROZEN, ENCODED, 8))
    data = Data(FROZEN, {"train": [from_problem(one) for one in islice(problems("train", 1, 2, 4), 60)], "test": SOME})
    rows = {row["predictor"]: row for row in map_rows(data, {"state": (way.reasoner, 7)}, (40, 8), 16)}
    assert list(rows) == ["constant", "ridge", "state"] and rows["state"]["seed"] == 7 and rows["state"]["recursion"]
    distances = state_distances(way, ENCODED, 16)
    assert [rows["state"][f"distance/{i}"] for i in (1, 2, 3)] == pytest.approx(distances)
    assert rows["state"]["distance"] == pytest.approx(distances[-1])
    known = baseline_distances(FROZEN, encode(FROZEN, data.parts["train"], 1), ENCODED, 16)
    assert (rows["ridge"]["distance"], rows["ridge"]["accuracy"]) == pytest.approx(known["ridge"])
