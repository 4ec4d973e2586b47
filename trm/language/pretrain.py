"""The small language model that ships: arithmetic word problems, with and without thinking first.

    python -m trm.language.pretrain                    # trains it: outputs/reasoning_lm/<run id>/model
    python -m trm.language.pretrain -p max_steps 20    # any parameter, as in a chapter

The one that chapter 08 begins with, stopped while it is right half of the time (its command is in its card), ships as
`reasoning_lm_early`.

Training ends when thinking gains no more on the validation problems; the averaged weights of the best evaluation, the
tokenizer and a model card with the measured accuracies are written to `model/`. Trained for longer, the model learns from
its own chains to answer without them, and then it no longer needs to think.
"""

import json
import sys
from itertools import islice

import torch
from transformers import SmolLM3ForCausalLM

from trm.errors import show_user_errors_plainly
from trm.language.lm import CausalLM, load_lm, smollm3, write
from trm.language.params import ReasoningLM
from trm.language.stories import Problem, ReasoningBatches, make_tokenizer, problems
from trm.params import from_command_line
from trm.progress import Progress
from trm.run import Run, write_atomically
from trm.trainer import Trainer

CARD = """---
license: mit
library_name: transformers
pipeline_tag: text-generation
---
# A language model that needs to think

A causal language model of SmolLM3's architecture, {parameters:,} parameters ({layers} layers, {hidden} wide), trained from
random weights on arithmetic word problems of {min_steps} to {max_steps} steps that a program writes, half of them with a
chain of thought and half without. It is meant for studying compressed states, latent thoughts and reinforcement learning
on a small machine; it knows nothing else, and its text is not to be relied on.

    Emma has 12 apples. She buys 5 more. She doubles them. How many apples does Emma have? /think<think>

asks for a chain, `12+5=17;17*2=34;</think>34`; ` /no_think<think></think>` at the end of the prompt for the answer at once.

Measured on {test_size} problems whose arithmetic does not occur in training, most likely token each time:

| steps of the problem | with thinking | without |
|---|---|---|
{rows}

The weights are those after {step:,} steps of {batch} problems, {why}; no data
of anybody's is in it. The command that rebuilds it:

    {command}
"""


def judge(lm, tokenizer, test: list[Problem]) -> dict[str, float]:
    """Accuracies "thinking", "no_thinking", and of each number of steps "thinking/4", ..."""
    found = {}
    for name, thinking in (("thinking", True), ("no_thinking", False)):
        written = write(lm, tokenizer, test, thinking)
        right = [answer == problem.answer for answer, problem in zip(written.answers, test)]
        found[name] = sum(right) / len(right)
        for steps in sorted({len(p.steps) for p in test}):
            part = [r for r, p in zip(right, test) if len(p.steps) == steps]
            found[f"{name}/{steps}"] = sum(part) / len(part)
    return found


def card(params: ReasoningLM, metrics: dict[str, float], parameters: int) -> str:
    """The model card."""
    steps = sorted(int(name.rsplit("/", 1)[1]) for name in metrics if name.startswith("test/thinking/"))
    names = [("all", "")] + [(str(n), f"/{n}") for n in steps]
    rows = [
        f"| {said} | {metrics[f'test/thinking{end}']:.1%} | {metrics[f'test/no_thinking{end}']:.1%} |"
        for said, end in names
    ]
    default = ReasoningLM()
    changed = {k: v for k, v in params.result_values().items() if v != getattr(default, k)}
    return CARD.format(
        parameters=parameters, layers=params.num_layers, hidden=params.hidden_size, min_steps=params.min_steps,
        max_steps=params.max_problem_steps, test_size=params.test_size, rows="\n".join(rows),
        step=metrics["model/step"], batch=params.batch_size,
        why="the evaluation from which on thinking gained no more" if params.early_stopping_patience
        else "the best evaluation before training was stopped",
        command=" ".join(["python -m trm.language.pretrain", *(f"-p {k} {v}" for k, v in changed.items())]),
    )  # fmt: skip


def train(params: ReasoningLM) -> Run:
    """Train, test, and write the model; returns the run, which is complete unless `time_limit` paused it."""
    run = Run(params, "reasoning_lm")
    tokenizer = make_tokenizer()
    lm = smollm3(tokenizer, params.hidden_size, params.num_layers, params.seed)
    valid, test = (
        list(islice(problems(part, params.seed, params.min_steps, params.max_problem_steps), size))
        for part, size in (("valid", params.valid_size), ("test", params.test_size))
    )
    batches = ReasoningBatches(
        tokenizer, params.batch_size, params.seed, params.min_steps, params.max_problem_steps, params.question_weight
    )

    def evaluate(model: CausalLM) -> dict[str, float]:
        return {f"valid/{name}": value for name, value in judge(model.lm, tokenizer, valid).items() if "/" not in name}

    model = CausalLM(lm)
    trainer = Trainer(
        model, batches, params, run, evaluate, monitor=("valid/thinking",), show=Progress(params.max_steps)
    )
    metrics = trainer.fit()
    if not trainer.paused and run.main:
        ship(params, run, metrics, tokenizer, test)
    run.finish(metrics, complete=not trainer.paused)
    return run


def ship(params: ReasoningLM, run: Run, metrics: dict[str, float], tokenizer, test: list[Problem]) -> None:
    """Write the best evaluation's model to model/, in half the bytes, test that, and add what it does to `metrics`."""
    run.save_model(SmolLM3ForCausalLM.from_pretrained(run.dir / "best", dtype=torch.float16), "model")
    make_tokenizer().save_pretrained(run.path("model"))  # a fresh one: this one has learned to pad
    lm, _ = load_lm(str(run.dir / "model"))
    thinking = {record["step"]: record["valid/thinking"] for record in run.history() if "valid/thinking" in record}
    metrics["model/step"] = max(thinking, key=thinking.get)  # the first of the best
    metrics |= {f"test/{name}": value for name, value in judge(lm, tokenizer, test).items()}
    write_atomically(run.path("model/README.md"), card(params, metrics, lm.num_parameters()))
    facts = {"metrics": {k: v for k, v in metrics.items() if "second" not in k}, "params": params.result_values()}
    write_atomically(run.path("model/training.json"), json.dumps(facts, indent=2))


if __name__ == "__main__":
    show_user_errors_plainly()
    print(train(ReasoningLM.create(from_command_line(sys.argv[1:]))).dir)
