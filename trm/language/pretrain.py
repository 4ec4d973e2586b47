"""Training of the small language model that ships, on arithmetic word problems with and without a chain of thought.

    python -m trm.language.pretrain -p max_steps 20    # any parameter, as in a chapter

Training stops at the first evaluation without gain with thinking: trained longer, the model learns to answer without a chain.
"""

import json
import sys
from collections import defaultdict
from itertools import islice
from typing import ClassVar, Literal

import torch
from pydantic import Field
from transformers import SmolLM3ForCausalLM

from trm.errors import show_user_errors_plainly
from trm.language.lm import CausalLM, generate_greedy, load_lm, smollm3
from trm.language.stories import Problem, ReasoningBatches, make_tokenizer, problems
from trm.params import from_command_line
from trm.progress import Progress
from trm.run import Run, write_atomically
from trm.trainer import Trainer
from trm.training_params import Training


class ReasoningLM(Training):
    """Parameters of the language model that ships."""

    COMPUTED_BY: ClassVar[str] = "trm.language.pretrain"

    hidden_size: int = Field(192, ge=32, description="width D")
    num_layers: int = Field(4, ge=1, le=1000, description="blocks")
    min_steps: int = Field(2, ge=1, description="fewest steps of a problem")
    max_problem_steps: int = Field(6, ge=1, description="most steps of a problem")
    question_weight: float = Field(0.1, ge=0, le=1, description="loss weight of the prompt's tokens")
    valid_size: int = Field(100, ge=1, description="validation problems")
    test_size: int = Field(2000, ge=1, description="test problems")
    batch_size: int = Field(64, ge=1, description="examples per optimizer step, over all processes")
    max_steps: int = Field(4000, ge=1, description="most optimizer steps")
    lr: float = Field(3e-3, gt=0, le=1, description="peak learning rate")
    lr_schedule: Literal["constant", "cosine"] = Field("cosine", description="rate after the warm-up")
    warmup_steps: int = Field(100, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(0.05, ge=0, description="decoupled weight decay")
    ema_decay: float = Field(0.995, ge=0, lt=1, description="decay of the averaged weights; 0: no averaging")
    eval_interval: int = Field(250, ge=1, description="steps between evaluations on the validation part")
    checkpoint_interval: int = Field(500, ge=1, description="steps between checkpoints")
    early_stopping_patience: int = Field(1, ge=0, description="evaluations without gain before stopping; 0: off")


def accuracies(lm, tokenizer, some: list[Problem]) -> dict[str, float]:
    """Accuracies "thinking", "no_thinking", and by number of steps "thinking/4", ..."""
    found = {}
    for name, thinking in (("thinking", True), ("no_thinking", False)):
        written = generate_greedy(lm, tokenizer, some, thinking)
        right = defaultdict(list)
        for answer, problem in zip(written.answers, some):
            right[len(problem.steps)].append(answer == problem.answer)
        found[name] = written.accuracy(some)
        found |= {f"{name}/{steps}": sum(part) / len(part) for steps, part in sorted(right.items())}
    return found


def train(params: ReasoningLM) -> Run:
    """Train, test, and write the model; returns the run, which is complete unless `time_limit` paused it."""
    run, tokenizer = Run(params, "reasoning_lm"), make_tokenizer()
    model = CausalLM(smollm3(tokenizer, params.hidden_size, params.num_layers, params.seed))
    steps = params.min_steps, params.max_problem_steps
    valid = list(islice(problems("valid", params.seed, *steps), params.valid_size))
    test = list(islice(problems("test", params.seed, *steps), params.test_size))
    batches = ReasoningBatches(tokenizer, params.batch_size, params.seed, *steps, params.question_weight)

    def evaluate(model: CausalLM) -> dict[str, float]:
        found = accuracies(model.lm, tokenizer, valid)
        return {f"valid/{name}": found[name] for name in ("thinking", "no_thinking")}

    monitor, show = ("valid/thinking",), Progress(params.max_steps)
    trainer = Trainer(model, batches, params, run, evaluate, monitor=monitor, show=show)
    metrics = trainer.fit()
    if not trainer.paused and run.main:
        save(params, run, metrics, test)
    run.finish(metrics, complete=not trainer.paused)
    return run


def save(params: ReasoningLM, run: Run, metrics: dict[str, float], test: list[Problem]) -> None:
    """Write the model of the best evaluation to model/ in float16, test that one, and add the results to `metrics`."""
    model = SmolLM3ForCausalLM.from_pretrained(run.dir / "best", dtype=torch.float16)
    run.save_model(model, "model", make_tokenizer())  # a new tokenizer: the used one has settings of padding
    lm, tokenizer = load_lm(str(run.dir / "model"))
    thinking = {record["step"]: record["valid/thinking"] for record in run.history() if "valid/thinking" in record}
    metrics["model/step"] = max(thinking, key=thinking.get)  # the first of the best
    metrics |= {f"test/{name}": value for name, value in accuracies(lm, tokenizer, test).items()}
    facts = {"metrics": {k: v for k, v in metrics.items() if "second" not in k}, "params": params.result_values()}
    write_atomically(run.path("model/training.json"), json.dumps(facts, indent=2))


if __name__ == "__main__":
    show_user_errors_plainly()
    print(train(ReasoningLM.create(from_command_line(sys.argv[1:]))).dir)
