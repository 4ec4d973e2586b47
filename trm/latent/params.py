"""Parameters of chapter 07: latents in place of a written chain of thought."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from trm.latent.reasoner import ReasonerParams
from trm.supervision import ADAPTIVE
from trm.training_params import ArmTraining, checked_weights

# The loss of the language model alone, in every step.
ANSWER_ONLY = {"chain_weight": 0.0, "lm_loss_start": 0, "lm_loss_every": 1, "readout": "lm"}
STATE = {"readout": "state", "chain_weight": 0.0, "answer_weight": 0.0}
# What each arm changes in the parameters of the chapter.
LATENT_ARMS = {
    "thoughts": {"readout": "lm"},  # learns the steps of the chain, and the answer through the language model
    "answer_alone": ANSWER_ONLY,  # no chain loss: only the answer, and the state after a correct chain
    "pause": ANSWER_ONLY,  # the same, for vectors that are equal for every problem
    "direct": {"readout": "direct"},  # the same recursion and chain loss, read off without the language model
    "direct_alone": {"readout": "direct", "chain_weight": 0.0},  # learns only the answer, without the language model
    # only the state after a correct chain, through the language model, which then answers
    "distill_alone": ANSWER_ONLY | {"answer_weight": 0.0},
    # the source's phase 2: states before thinking to the state after it, without and with recursion
    "state": STATE,
    "state_once": STATE | {"recursion": False},
    # learns the totals before the answer; the language model continues the chain after any number of them
    "totals": {"readout": "lm", "teach_answer": False, "answer_weight": 0.0, "distill_weight": 0.0},
}


class LatentReasoning(ArmTraining, ReasonerParams):
    """Chapter 07: a TRM maps the states of a prompt to latents, after which a frozen language model answers."""

    COMPUTED_BY: ClassVar[str] = "trm.latent.train"
    ARMS: ClassVar[dict] = LATENT_ARMS
    FREE: ClassVar[tuple[str, ...]] = ("lm_loss_start", "lm_loss_every")
    RUN_FOLDERS: ClassVar[tuple[str, ...]] = ("map.csv", "continued.csv", "swaps.csv")

    lm: str = Field("", description="language model that can think, hub name or path; empty: the one that ships")
    anchor: str = Field("", description="words of the language model between </think> and its answer")
    data_path: str = Field("", description="GSM8K: folder, file or hub:openai/gsm8k:main; empty: generated stories")
    min_steps: int = Field(2, ge=1, description="fewest steps of a generated story")
    max_problem_steps: int = Field(6, ge=1, description="most steps of a generated story")
    num_samples: int = Field(3000, ge=16, description="training problems")
    valid_size: int = Field(250, ge=1, description="validation problems for the live curve")
    test_size: int = Field(1000, ge=64, description="unseen problems on which all methods are evaluated")
    max_new_tokens: int = Field(80, ge=1, description="most tokens of a chain with its answer")
    max_answer_tokens: int = Field(8, ge=1, description="most tokens of an answer without a chain")
    cache_dir: str = Field("", description="shared cache of states and chains; empty: in the run's folder")

    arm: str = Field("thoughts", description="arm to train; empty: other parameters decide", examples=[*LATENT_ARMS])
    eval_checkpoint: Literal["shipped", "trained"] = Field(
        "shipped", description="reasoners to evaluate: those that ship, or the one trained here"
    )
    lm_loss_start: int = Field(40, ge=0, description="optimizer step from which the language model's loss is computed")
    lm_loss_every: int = Field(10, ge=1, description="optimizer steps between computations of that loss")

    batch_size: int = Field(64, ge=1, description="problems per optimizer step (global batch size)")
    max_steps: int = Field(160, ge=1, description="optimizer steps")
    lr: float = Field(3e-3, gt=0, le=1, description="peak learning rate")
    lr_schedule: Literal["constant", "cosine"] = Field("cosine", description="rate after the warm-up")
    warmup_steps: int = Field(50, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(0.01, ge=0, description="decoupled weight decay")
    eval_interval: int = Field(40, ge=1, description="steps between evaluations on the validation part")
    timed: int = Field(64, ge=1, description="problems on which the time per answer is measured")

    NOT_IN_RUN_ID: ClassVar[frozenset[str]] = ArmTraining.NOT_IN_RUN_ID | {"cache_dir"}

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.schedule == ADAPTIVE:
            raise ValueError("parameter 'schedule' = 'adaptive' is for chapters 02, 04 and 06")
        checked_weights("schedule", self.schedule, self.H_cycles, self.supervision_weight)
        if (low := self.min_steps) > (high := self.max_problem_steps):
            raise ValueError(f"parameter 'min_steps' = {low} must not exceed max_problem_steps = {high}")
        if not self.chain_weight + self.answer_weight + self.distill_weight:
            raise ValueError("'chain_weight', 'answer_weight', 'distill_weight' are all 0: nothing is learned")
        own = self.of_arm(self.arm)
        if own.readout == "direct" and not own.teach_answer:
            raise ValueError("readout 'direct' reads the answer off the last latent: it requires teach_answer True")
        return self
