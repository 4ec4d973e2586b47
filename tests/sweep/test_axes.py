"""Nothing in the suites is a label only: along every axis something that is really computed differs."""

import fnmatch
import hashlib
import itertools

import pytest
import torch

from trm.optim import EMA
from trm.puzzles.dataset import PuzzleBatches, load
from trm.puzzles.train import count_flops, make_model, make_trainer
from trm.run import Run
from trm.sweep.spec import read_sweeps

SUITES = read_sweeps()
# Axis: what must differ between any two of its cases (and, where it is named first, from the baseline).
AXES = {
    "scaling_research": {
        "exp01?": "tensors", "exp02?": "flops", "exp03?": "flops", "exp04?": "tensors", "exp05[a-f]": "data",
        "exp05[g-k]": "data", "exp06?": "updates", "exp07?": "data", "exp08[ab]": "updates", "exp09?": "averaged",
        "exp10?": "updates", "contrib01?": "flops", "contrib02?": "exploration", "baseline contrib03": "answer",
        "baseline contrib04": "updates", "baseline contrib05": "updates", "baseline contrib06": "updates",
        "baseline contrib07": "tensors", "baseline contrib08": "updates",
    },
    "tpu_quickstart": {
        "e1_1* e1_3_*": "data", "e1_1* e2_1*": "averaged", "e2_2_*": "flops", "e1_1* e2_3*": "tensors",
        "e1_1* e2_4*": "updates", "e1_1* e3_1*": "tensors", "e1_1* e3_2*": "data", "e1_1* e4_1*": "updates",
        "e1_1* e4_2*": "flops", "e1_1* e4_3*": "tensors", "e1_1* e4_4*": "updates", "e1_1* e4_5*": "data",
    },
}  # fmt: skip


def digest(*tensors):
    return hashlib.sha256(b"".join(t.detach().float().numpy().tobytes() for t in tensors)).hexdigest()


def what_happens(params, steps, tmp_path):
    """Train a point of the laptop scale for a few steps, and look at what was made."""
    small = params.model_copy(update={"max_steps": steps, "batch_size": min(params.batch_size, 8), "eval_interval": 999,
                                      "checkpoint_interval": 999, "warmup_steps": min(params.warmup_steps, 2),
                                      "output_dir": str(tmp_path)})  # fmt: skip
    data = load(params.puzzle, "", params.train_size, 4, 4, params.seed)
    batches = PuzzleBatches(data.train, params.batch_size, params.seed, params.num_aug)
    model = make_model(small, data)
    trainer = make_trainer(model, small, Run(small, "04_trm_train"), data)
    trainer.fit()
    weight = torch.nn.Linear(1, 1, bias=False)
    average = EMA(weight, params.ema_decay)
    for _ in range(params.max_steps):  # as many updates as there are at this scale, of a weight that grows
        weight.weight.data += 1
        average.update()
    flops = count_flops(params)
    return {
        "tensors": sorted(tuple(p.shape) for p in model.parameters()),
        "flops": flops["flops/training"],
        "answer": flops["flops/answer"],
        "data": digest(*(torch.from_numpy(batches(i)["inputs"]) for i in range(20))),
        "updates": digest(*model.parameters()),
        "averaged": digest(*average.shadow.values()),
        "exploration": digest(*(torch.as_tensor(model.host_draws(0, i, 48)["min_halt_steps"]) for i in (0, 300, 599))),
    }


@pytest.mark.slow
@pytest.mark.parametrize("suite, axis", [(suite, axis) for suite in AXES for axis in AXES[suite]])
def test_an_axis_changes_what_is_computed(suite, axis, tmp_path):
    sweep, kind = SUITES[suite], AXES[suite][axis]
    cases = [case for pattern in axis.split() for case in fnmatch.filter(sweep.cases, pattern)]
    assert len(cases) > 1
    points = [point for point in sweep.points("laptop", cases) if point.seed == 0]
    halting = {point.params.halt_max_steps for point in points}
    steps = max(halting) + 2 if len(halting) > 1 else 4  # to see a limit on the supervision steps, reach it
    seen = {point.case: what_happens(point.params, steps, tmp_path / point.case)[kind] for point in points}
    for one, other in itertools.combinations(seen, 2):
        assert seen[one] != seen[other], f"{one} and {other} have the same {kind}"


def test_every_case_stands_on_an_axis():
    for suite, axes in AXES.items():
        cases = SUITES[suite].cases
        named = {case for axis in axes for pattern in axis.split() for case in fnmatch.filter(cases, pattern)}
        # float16 wants CUDA and says so; the three seeds are the baseline
        assert set(cases) - named <= {"baseline", "exp08c", "e1_2_seeds"}
