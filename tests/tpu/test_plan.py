"""Plans for a TPU slice against the real modules, torch's counters and sums by hand."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.conftest import ROOT
from trm.flops import step_flops
from trm.model import TRM, TRMConfig
from trm.params import read_yaml
from trm.puzzles.params import TrmTrain
from trm.puzzles.sudoku import SHAPES
from trm.puzzles.train import step_cost
from trm.tpu.plan import SLICES, application_traffic, chip_memory, count_parameters, faults, kept_for_backward, plan

PAPER = read_yaml(ROOT / "params" / "04_paper.yaml") | {"compile": False}
V4_8, V4_64 = SLICES["v4-8"], SLICES["v4-64"]
SHAPE = SHAPES["9x9"]


def paper(**changes) -> TrmTrain:
    return TrmTrain.create(PAPER | changes)


def config(**changes) -> TRMConfig:
    return paper(**changes).trm_config()


def test_slices_are_what_is_published():
    """32 chips, 8.8 PFLOP/s, 1 TiB: Google's page of the TPU v4."""
    assert (V4_64.chips, V4_8.chips) == (32, 4)
    assert V4_64.chips * V4_64.peak_flops == 8.8e15 and V4_64.chips * V4_64.memory == 2**40


@pytest.mark.parametrize("changes, published", [
    ({}, 4_855_298), ({"mixer": "attention", "puzzle_tokens": 16}, 6_828_034)
])  # fmt: skip
def test_parameters_are_the_papers(changes, published):
    """The paper's head of two outputs has one row (512 weights, a bias) more, and it does not count puzzle tokens."""
    c = config(**changes)
    assert count_parameters(c) + 513 == published + c.puzzle_tokens * c.hidden_size
    small = config(hidden_size=32, num_heads=4, **changes)
    assert count_parameters(small) == sum(p.numel() for p in TRM(small).parameters())


def test_flops_are_torchs_at_the_papers_size():
    """One step of one example at full size, forward and backward, against torch's counter on the real module."""
    c = config(H_cycles=1, L_cycles=1, num_layers=1)
    tokens = torch.ones(1, SHAPE.cells, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        TRM(c).loss({"inputs": tokens, "labels": tokens}).loss.backward()
    assert counter.get_total_flops() == step_flops(c)


@pytest.mark.parametrize("mixer", ["mlp", "attention"])
def test_what_is_kept_for_the_backward_pass_is_what_autograd_keeps(mixer):
    """Against the storages that a whole real step saves, in which the heads and the loss take a small part."""
    small = {"hidden_size": 128, "num_heads": 4, "expansion": 2.0, "inner_multiple": 8, "H_cycles": 1}
    c = config(mixer=mixer, loss_type="softmax", **small)
    tokens = torch.ones(3, SHAPE.cells, dtype=torch.long)
    with sdpa_kernel(SDPBackend.MATH):  # as on XLA, which writes the scores of attention down
        real = step_cost(TRM(c), {"inputs": tokens, "labels": tokens}, rounds=1)["megabytes"] * 1e6 / 3
    assert (c.L_cycles + 1) * kept_for_backward(c) == pytest.approx(real, rel=0.1)
    assert 0.5 < kept_for_backward(c, "bfloat16") / kept_for_backward(c) < 0.8


def test_memory_and_traffic_by_hand():
    """Two plain layers' worth of numbers, summed here from the shapes."""
    params = paper(batch_size=64, precision="float32")
    c = config()
    D, T, inner_T, inner_D = 512, 81, 256, 1536
    assert application_traffic(c, 2, 4) == 2 * 4 * (
        3 * T * inner_T + 2 * D * (2 * T + 3 * inner_T) + 3 * D * inner_D + 2 * T * (2 * D + 3 * inner_D)
    )
    weights = 20 * count_parameters(c)
    per_row = 2 * T * D * 4 + (2 * T + 3) * 8 + 7 * kept_for_backward(c) + T * 11 * 12
    assert chip_memory(params, c, V4_64) == weights + 2 * per_row


def test_a_plan_by_hand():
    """Batch 768 on 32 chips: rates, bounds and days from the definition."""
    params = paper()
    found = plan(params, V4_64, utilisation=0.4)
    flops = 768 * step_flops(config())
    assert (found["rows"], found["flops_per_step"], found["global_batch"]) == (24, flops, 768)
    assert found["compute_seconds"] == pytest.approx(flops / 8.8e15)
    assert found["network_seconds"] == pytest.approx(2 * 31 / 32 * 4 * 4_854_785 / 90e9)
    assert found["allreduce_bytes"] == 4 * 4_854_785
    assert found["step_seconds"] == pytest.approx(flops / 8.8e15 / 0.4)
    assert found["days"] == pytest.approx(65_104 * found["step_seconds"] / 86400)
    assert found["bound"] == "memory" and found["highest_utilisation"] < 1 and found["host_seconds"] == 0


def test_the_memory_and_the_host_by_hand():
    """e1_1_baseline: 35 applications of 39,521,280 bytes for 8 rows, and 36 bytes a parameter for the update; 70 layers."""
    found = plan(paper(batch_size=256), V4_64, utilisation=1.0, host_milliseconds=2.0)
    assert found["memory_seconds"] == pytest.approx((35 * 39_521_280 + 36 * 4_854_785) / 1.2e12)
    assert found["intensity"] == pytest.approx(found["flops_per_step"] / 32 / (35 * 39_521_280 + 36 * 4_854_785))
    assert found["host_seconds"] == pytest.approx(0.140) and found["bound"] == "host"
    assert found["step_seconds"] == found["host_seconds"] and found["host_bytes"] == 256 * (81 + 81 + 1) * 8


def test_float32_takes_six_passes_and_a_curriculum_of_depth_is_cheaper():
    one, six = (plan(paper(precision=precision), V4_64) for precision in ("bfloat16", "float32"))
    assert six["compute_seconds"] == pytest.approx(6 * one["compute_seconds"]) and six["bound"] == "compute"
    assert plan(paper(depth_curriculum="1x2@0, 2x4@0.3, 3x6@0.6"), V4_64)["days"] < 0.75 * one["days"]


@pytest.mark.parametrize("changes, says", [
    ({"batch_size": 100}, "cannot be shared by 32 chips"),
    ({"batch_size": 96, "grad_accumulation": 2}, "cannot be shared by 32 chips"),
    ({"batch_size": 49152}, "GiB on a chip of 32"),
    ({"activation_checkpointing": True}, "torch has none for XLA"),
    ({"precision": "float16"}, "a TPU has none"),
])  # fmt: skip
def test_faults_are_named_and_their_fixes_work(changes, says):
    params = paper().model_copy(update=changes)
    ((fault, fix),) = faults(params, V4_64).items()
    assert says in fault and fix
    assert not faults(params.model_copy(update=fix), V4_64) and not faults(paper(), V4_64)
    assert list(faults(paper(hidden_size=32768, num_heads=8, batch_size=32), V4_8).values()) == [{}]  # nothing fixes it
