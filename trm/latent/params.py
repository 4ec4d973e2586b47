"""Parameters of chapter 07: latents that stand in the place of a language model's own thoughts."""

from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from trm.params import RecursiveTraining, checked_weights, known_schedule

ASKED = {"chain_weight": 0.0, "asked_from": 0, "ask_interval": 1, "answers_by": "lm"}  # in every step
# What each arm is: changes in the parameters of the chapter.
LATENT_ARMS = {
    "thoughts": {"answers_by": "lm"},  # learns the steps of the chain, and the answer through the language model
    "answer_alone": ASKED,  # nothing but the answer, and where a right chain leads
    "pause": ASKED,  # the same, for vectors that are equal for every problem
    "direct": {"answers_by": "itself"},  # the same recursion and the same chain, read off without the language model
    "direct_alone": {"answers_by": "itself", "chain_weight": 0.0},  # and that from the answer alone
}


class LatentReasoning(RecursiveTraining):
    """Chapter 07: a TRM maps the states of a prompt to latents, after which a frozen language model answers."""

    COMPUTED_BY: ClassVar[str] = "trm.latent.train"

    lm: str = Field("", description="language model that can think, hub name or path; empty: the one that ships")
    layer: int = Field(2, description="whose states are read: 1 the first block's, -1 what the head reads")
    ending: str = Field(";", description="what a chain of the language model ends with, before </think>")
    anchor: str = Field("", description="words of the language model between </think> and its answer")
    data_path: str = Field("", description="GSM8K: folder, file or hub:openai/gsm8k:main; empty: generated stories")
    min_steps: int = Field(2, ge=1, description="fewest steps of a generated story")
    max_problem_steps: int = Field(6, ge=1, description="most steps of a generated story")
    num_samples: int = Field(3000, ge=16, description="problems to train on")
    valid_size: int = Field(250, ge=1, description="problems, kept out of training, for the live curve")
    test_size: int = Field(1000, ge=64, description="unseen problems, on which all ways are judged")
    max_new_tokens: int = Field(80, ge=1, description="most tokens of a chain with its answer")
    max_answer_tokens: int = Field(8, ge=1, description="most tokens of an answer without a chain")
    cache_dir: str = Field(
        "", description="where states and chains are kept for other runs; empty: in the run's folder"
    )

    arm: str = Field("thoughts", description="what is trained, one of LATENT_ARMS; empty: what the parameters say")
    judged: Literal["shipped", "trained"] = Field(
        "shipped", description="which thinkers are judged: those that ship, or the one trained here"
    )
    num_latents: int = Field(6, ge=1, description="latents between the prompt and the answer")
    d_compressed: int = Field(96, ge=1, description="numbers that a state comes in by, and a latent goes out by")
    hidden_size: int = Field(96, ge=8, description="width D")
    num_layers: int = Field(1, ge=1, description="blocks of the shared network")
    num_heads: int = Field(4, ge=1, description="attention heads")
    expansion: float = Field(4.0, gt=0, description="expansion of the SwiGLU")
    H_cycles: int = Field(4, ge=1, description="thoughts in a supervision step")
    L_cycles: int = Field(1, ge=1, description="latent steps before each thought")
    backprop: Literal["last", "per_cycle", "full"] = Field("full", description="how far gradients flow back")
    halt_max_steps: int = Field(1, ge=1, description="supervision steps, the state detached between them")
    halting: Literal["none", "act"] = Field("none", description="act: the expected loss over halting times")
    ponder_coef: float = Field(1e-3, ge=0, description="price of an expected H-cycle in act")

    chain_weight: float = Field(1.0, ge=0, description="weight of the steps of a right chain")
    answer_weight: float = Field(1.0, ge=0, description="weight of the answer")
    distill_weight: float = Field(1.0, ge=0, description="weight of the distance to the state after a right chain")
    answers_by: Literal["lm", "itself"] = Field("lm", description="who answers: the language model, or the last latent")
    ask_each: bool = Field(False, description="ask the language model after every H-cycle, not after the last alone")
    asked_from: int = Field(40, ge=0, description="training step from which the language model is asked")
    ask_interval: int = Field(10, ge=1, description="steps from one in which it is asked to the next")
    schedule: str = Field("linear", description="weights over the H-cycles: deep supervision; none: the last alone")
    supervision_weight: float = Field(0.5, ge=0, le=10, description="weight of the H-cycles before the last")

    batch_size: int = Field(64, ge=1, description="problems an optimizer step, over all processes")
    max_steps: int = Field(160, ge=1, description="optimizer steps; what ends a run")
    lr: float = Field(3e-3, gt=0, le=1, description="peak learning rate")
    lr_schedule: Literal["constant", "cosine"] = Field("cosine", description="rate after the warm-up")
    warmup_steps: int = Field(50, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(0.01, ge=0, description="decoupled weight decay")
    eval_interval: int = Field(40, ge=1, description="steps between evaluations on the validation part")
    timed: int = Field(64, ge=1, description="problems that each way of answering is timed on")
    table: str = Field("", description="file to write the arm's rows to, such as book/results/07_mine.csv")

    NOT_IN_RUN_ID: ClassVar[frozenset[str]] = RecursiveTraining.NOT_IN_RUN_ID | {"table", "cache_dir"}

    @field_validator("schedule")
    @classmethod
    def _known_schedule(cls, value: str) -> str:
        if value == "adaptive":
            raise ValueError("adaptive is for chapters 02, 04 and 06")
        return known_schedule(value)

    @field_validator("arm")
    @classmethod
    def _known_arm(cls, value: str) -> str:
        if value and value not in LATENT_ARMS:
            raise ValueError(f"no arm {value!r}; there are {', '.join(LATENT_ARMS)}")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        checked_weights("schedule", self.schedule, self.H_cycles, self.supervision_weight)
        if self.min_steps > self.max_problem_steps:
            raise ValueError(
                f"parameter 'min_steps' = {self.min_steps} must not exceed max_problem_steps = {self.max_problem_steps}"
            )
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(
                f"parameter 'hidden_size' = {self.hidden_size} must be a multiple of 2 * num_heads = {2 * self.num_heads}"
            )
        if not self.chain_weight + self.answer_weight + self.distill_weight:
            raise ValueError(
                "parameters 'chain_weight', 'answer_weight', 'distill_weight' are all 0: nothing is learned"
            )
        asked = self.asked_from == 0 and self.ask_interval == 1
        if self.halting == "act" and self.of_arm(self.arm).chain_weight == 0 and self.answers_by == "lm" and not asked:
            raise ValueError(
                "parameter 'halting' = 'act' weighs a loss of every thought in every step: give chain_weight"
            )
        for name, value in LATENT_ARMS.get(self.arm, {}).items():
            own, default = getattr(self, name), type(self).model_fields[name].default
            if own not in (value, default) and name not in ("asked_from", "ask_interval"):
                raise ValueError(
                    f"parameter {name!r} = {own!r} is not what arm {self.arm!r} means; leave one of them out"
                )
        return self

    def of_arm(self, arm: str) -> Self:
        """These parameters with what `arm` says in them; "": as they are."""
        return self.model_copy(update=LATENT_ARMS.get(arm, {}))
