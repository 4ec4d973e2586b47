"""Micro-batches and processes: a step has the gradient and the metrics of its whole batch, for every model and loss.

As a script, what `tests.conftest.TWO_PROCESSES` starts: write the gradients of all systems into a folder.
"""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import ROOT, TWO_PROCESSES
from trm.compressor.model import Compressor
from trm.compressor.params import Compression
from trm.compressor.states import StateBatches
from trm.compressor.train import TRAINED
from trm.grpo import rewards
from trm.grpo import train as grpo
from trm.grpo.params import Grpo
from trm.language.lm import CausalLM, StateReader, load_lm
from trm.language.pretrain import ReasoningLM
from trm.language.stories import ReasoningBatches, problems, to_learn
from trm.language.text import shuffled
from trm.latent import data as exercises
from trm.latent import train as latent
from trm.latent.frozen_lm import FrozenLM
from trm.latent.params import LatentReasoning
from trm.latent.reasoner import LatentThinker
from trm.params import read_yaml
from trm.parsing import train as parsing
from trm.parsing.batches import LengthBatches
from trm.parsing.params import PARSER_ARMS, Parsing
from trm.protocol import StepOutput
from trm.puzzles.dataset import PuzzleBatches, load
from trm.puzzles.params import TrmTrain
from trm.puzzles.train import make_model
from trm.recursive_lm import train as recursive
from trm.recursive_lm.params import RecursiveLM
from trm.run import Run
from trm.trainer import Trainer

STEPS = 4  # so that some puzzles have halted and others have not
SMALL = {"backend": "cpu", "batch_size": 8, "lr": 1e-12, "weight_decay": 0, "grad_clip": 0, "ema_decay": 0}
SMALL |= {"max_steps": 100, "log_interval": 1, "warmup_steps": 0}
load_data, load_model = cache(load), cache(load_lm)
load_treebank = cache(lambda: parsing.load_data(smoke(Parsing, "05_smoke", baseline_arm="")))


def smoke(schema, file: str, **values):
    return schema.create(read_yaml(ROOT / "params" / f"{file}.yaml") | SMALL | values)


def puzzles(**values):
    data = load_data("6x6", valid_size=16, test_size=32)
    kept = {"halt_max_steps": 3, "H_cycles": 2, "initial_noise": 0.1, "compute_gradient_stats": True}
    params = smoke(TrmTrain, "04_smoke", **kept | values)
    model = make_model(params, data)
    torch.nn.init.normal_(model.q_head.weight), torch.nn.init.zeros_(model.q_head.bias)  # some stop early
    return model, PuzzleBatches(data.train, 8, 0, 1), params


def parser(**values):
    kept = dict.fromkeys(("dropout", "inner_dropout", "word_dropout"), 0.0) | {"baseline_arm": ""}
    params, data = smoke(Parsing, "05_smoke", **kept | values), load_treebank()
    params = parsing.arm_params(params, params.arm)
    return parsing.make_parser(params, data), LengthBatches(data.encoded["train"], 0, 7, 0, 4), params


def recursive_lm(texts: bool = False, **values):
    params = smoke(RecursiveLM, "06_smoke", baseline_arm="", question_weight=0.1, compute_gradient_stats=True, **values)
    data = recursive.load(params)
    model, batches = recursive.make_model(params, data), recursive.batches_of(params, data)
    if texts:
        draw = np.random.default_rng(0)
        rows = [([5], draw.integers(3, 30, length).tolist()) for length in (3, 9, 2, 14, 5, 5, 7, 1)]
        batches = lambda step: to_learn([rows[i] for i in shuffled(8, 8, 0, step)], data.pad, 0.0)  # noqa: E731
    return model, batches, params


def reasoner(**values):
    params = smoke(LatentReasoning, "07_smoke", lm_loss_start=0, lm_loss_every=1, **values)
    params = params.of_arm(params.arm)
    frozen = FrozenLM(*load_model(), 2, ";", " so ")
    parts = {"train": [exercises.from_problem(next(problems("train", n, n % 5 + 1, n % 5 + 1))) for n in range(16)]}
    rows = exercises.encode(frozen, parts["train"], params.num_latents)
    made = latent.make_reasoner(params, exercises.Data(frozen, parts), rows, params.arm)
    batches, width = exercises.ThoughtBatches(rows, None, 8, 0), params.d_compressed

    def with_states(step: int):
        batch = batches(step)
        draw = np.random.default_rng(step)
        return batch | {"states": draw.standard_normal((*batch["mask"].shape, width), np.float32)}

    return LatentThinker(made, frozen), with_states, params


def compressor(arm: str):
    params = smoke(Compression, "01_smoke")
    lm, tokenizer = load_model()
    reader = StateReader(lm, -1)
    draw = np.random.default_rng(0)
    texts = [draw.integers(3, 60, length) for length in (4, 9, 3, 14, 6, 6, 8, 4)]
    model = Compressor(reader.hidden_size, 4, TRAINED[arm])
    model.read_states, model.lm_head = reader.states, reader.lm_head if arm == "task_aware" else None
    return model, StateBatches(texts, reader.states, 8, tokenizer.pad_token_id, 2), params


def policy(**values):
    rewards.REWARDS["letters"] = lambda texts, problems: [float(sum(map(ord, text))) for text in texts]
    kept = {"group_size": 2, "max_new_tokens": 30, "updates_per_batch": 1, "reward": "letters", "resample": 0}
    values = kept | {"min_steps": 1, "max_problem_steps": 4, "temperature": 2.0} | values
    params = smoke(Grpo, "08_smoke", **values)
    made = grpo.load_policy(params)
    return grpo.Learner(made, params), grpo.GroupSampler(made, params), params


def language_model():
    lm, tokenizer = load_model()
    return CausalLM(lm.requires_grad_(True)), ReasoningBatches(tokenizer, 8, 0, 1, 3, 0.1), ReasoningLM.create(SMALL)


SYSTEMS = {
    "puzzles": lambda: puzzles(),
    "puzzles, weighted steps": lambda: puzzles(step_schedule="decay", schedule="adaptive", loss_type="stablemax"),
    **{f"puzzles, {kind}": lambda kind=kind: puzzles(halting=kind) for kind in ("act", "ponder", "graves")},
    "puzzles, houses": lambda: puzzles(mixer="houses", hidden_size=8),
    "puzzles, q_continue": lambda: puzzles(halting="q_continue", step_schedule="ramp", backprop="last"),
    **{f"parser, {arm}": lambda arm=arm: parser(arm=arm) for arm in PARSER_ARMS},
    "parser, adaptive": lambda: parser(deep_supervision=True, schedule="adaptive", controller="recurrent"),
    "recursive_lm": lambda: recursive_lm(schedule="linear"),
    "recursive_lm, texts": lambda: recursive_lm(texts=True),
    "recursive_lm, chain": lambda: recursive_lm(chain=True),
    "latent reasoner": lambda: reasoner(distill_weight=1.0),
    "pause": lambda: reasoner(arm="pause", distill_weight=1.0),
    **{f"compressor, {arm}": lambda arm=arm: compressor(arm) for arm in TRAINED},
    **{f"policy, {name}": lambda name=name: policy(algorithm=name) for name in ("GRPO", "Dr.GRPO", "DAPO")},
    "policy, latents": lambda: policy(policy="latents", kl_coef=0.0, latent_std=2.0, algorithm="DAPO"),
    "language model": language_model,
}


def measured(system: str, folder: Path, parts: int) -> dict[str, torch.Tensor]:
    """Gradients of the last of some steps, and the means of all metrics so far."""
    torch.manual_seed(0)
    model, batches, params = SYSTEMS[system]()
    params = params.model_copy(update={"grad_accumulation": parts, "output_dir": str(folder)})
    trainer, found = Trainer(model, batches, params, Run(params, "gradients")), {}
    trainer.accelerator.clip_grad_norm_ = lambda *_: torch.zeros(())  # the gradients are looked at, not the norm
    trainer.optimizer.step = lambda: found.update(
        {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    )
    for _ in range(STEPS if system.startswith("puzzles") else 1):
        trainer._train_step(detail=True)
    means = {
        name: trainer.accelerator.reduce(total, "mean") / trainer.counts[name] for name, total in trainer.sums.items()
    }
    return {f"gradient of {n}": g.clone() for n, g in found.items()} | {n: v for n, v in means.items()}


def assert_equal(whole: dict[str, torch.Tensor], cut: dict[str, torch.Tensor]) -> None:
    assert whole.keys() == cut.keys() and len(whole) > 3
    size = max(float(value.norm()) for name, value in whole.items() if name.startswith("gradient"))
    assert size > 0
    for name, value in whole.items():
        tolerance = 1e-4 * max(float(value.norm()), 1e-2 * size)
        assert float((value - cut[name]).norm()) <= tolerance, name


@pytest.mark.parametrize("system", SYSTEMS)
def test_micro_batches_have_the_gradient_of_the_whole_batch(tmp_path, system):
    whole = measured(system, tmp_path, 1)
    for parts in (2, 4):
        assert_equal(whole, measured(system, tmp_path, parts))


class Draws(torch.nn.Module):
    """Something random in every step, as dropout is."""

    def __init__(self):
        super().__init__()
        self.weight, self.drawn = torch.nn.Parameter(torch.ones(1)), []

    def loss(self, batch, state=None, detail=False) -> StepOutput:
        self.drawn.append(torch.rand(()))
        loss = (self.weight * batch["x"]).mean()
        return StepOutput(loss, None, {"total_loss": loss.detach()})

    forward = loss


def draws(folder: Path) -> torch.Tensor:
    """Numbers drawn in all processes: in four steps, and in the last two by a run resumed after the second. (processes, 6)."""
    model = Draws()
    for resume in (False, True):
        params = ReasoningLM.create(
            SMALL | {"max_steps": 4, "checkpoint_interval": 2, "resume": resume, "output_dir": str(folder)}
        )
        trainer = Trainer(model, lambda step: {"x": np.ones(4, np.float32)}, params, Run(params, "draws"))
        trainer.fit()
        trainer.accelerator.wait_for_everyone()
        if trainer.run.main:
            shutil.rmtree(trainer.run.dir / "checkpoints" / "step_00000004")
        trainer.accelerator.wait_for_everyone()
    return trainer.accelerator.gather(torch.stack(model.drawn)[None])


def test_a_resumed_run_draws_what_an_unbroken_one_does(tmp_path):
    (found,) = draws(tmp_path).tolist()
    assert len({*found}) == 4 and found[2:4] == found[4:]


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory) -> Path:
    """A folder with what two processes find, with one and with two micro-batches each."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, *TWO_PROCESSES, str(Path(__file__)), str(folder)]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_one(two_processes, tmp_path):
    for system in SYSTEMS:
        whole = measured(system, tmp_path, 1)
        for parts in (1, 2):
            assert_equal(whole, torch.load(two_processes / f"{system}-{parts}.pt", weights_only=True))


@pytest.mark.slow
def test_each_process_has_random_numbers_of_its_own_after_a_resume_too(two_processes):
    one, two = torch.load(two_processes / "draws.pt", weights_only=True)
    assert len({*one.tolist(), *two.tolist()}) == 8
    assert torch.equal(one[2:4], one[4:]) and torch.equal(two[2:4], two[4:])


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    found = {f"{system}-{parts}": measured(system, folder, parts) for system in SYSTEMS for parts in (1, 2)}
    found["draws"] = draws(folder / "draws")
    for name, value in found.items() if os.environ["RANK"] == "0" else ():
        torch.save(value, folder / f"{name}.pt")
