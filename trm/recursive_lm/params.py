"""Parameters of chapter 06: a recursive language model, and its arms."""

from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from trm import supervision
from trm.params import RecursiveTraining, arm_names, checked_weights, known_schedule

# What each arm is: changes in the parameters of the chapter. An arm that is plain has no cycles to supervise.
PLAIN = {"body": "plain", "schedule": "none", "halting": "none", "halt_max_steps": 1}
LM_ARMS = {
    "recursive": {"body": "recursive"},
    "last_only": {"body": "recursive", "schedule": "none"},  # no deep supervision: a loss on the last answer alone
    "looped": {"body": "looped"},  # the shared blocks as often, without z_H and z_L
    "same_parameters": PLAIN,  # the blocks once
    "same_compute": PLAIN | {"num_layers": 0},  # as many blocks as are applied; 0: counted by `of_arm`
    "chain": PLAIN | {"chain": True},  # the blocks once, and the chain written before the answer
}


class RecursiveLM(RecursiveTraining):
    """Chapter 06: a language model whose body is a recursion, beside plain ones, on arithmetic without a chain of thought."""

    COMPUTED_BY: ClassVar[str] = "trm.recursive_lm.train"

    data: Literal["arithmetic", "text"] = Field("arithmetic", description="problems with one answer, or ordinary text")
    min_steps: int = Field(2, ge=1, description="fewest steps of a problem")
    max_problem_steps: int = Field(6, ge=1, description="most steps of a problem in training")
    test_steps: int = Field(9, ge=1, description="most steps of a problem in the test")
    chain: bool = Field(False, description="write the chain of thought before the answer")
    question_weight: float = Field(0.0, ge=0, le=1, description="weight of the prompt's tokens in the loss")
    text_path: str = Field("", description="text: .txt, .jsonl or hub:NAME; empty: answers of the shipped generator")
    text_column: str = Field("", description="field of the texts; empty: text, question or generations")
    num_samples: int = Field(2000, ge=1, description="sequences of text to train on")
    max_seq_length: int = Field(64, ge=8, description="most tokens of a sequence of text")
    embeddings: str = Field(
        "shipped", description="model whose token embeddings are taken, frozen: a name, path or shipped; empty: learned"
    )

    arm: str = Field("recursive", description="what is trained, one of LM_ARMS; empty: what the parameters say")
    versus: str = Field("same_compute", description="more arms, trained at equal compute; empty: none")
    body: Literal["recursive", "looped", "plain"] = Field(
        "recursive", description="recursion, shared blocks in a loop, blocks in a row"
    )
    hidden_size: int = Field(64, ge=8, description="width D")
    num_layers: int = Field(1, ge=1, description="blocks of the shared network; of a plain body, all its blocks")
    num_heads: int = Field(2, ge=1, description="attention heads")
    expansion: float = Field(2.0, gt=0, description="expansion of the SwiGLU")
    H_cycles: int = Field(3, ge=1, description="answers in a supervision step")
    L_cycles: int = Field(1, ge=1, description="latent steps before each answer")
    backprop: Literal["last", "per_cycle", "full"] = Field("full", description="how far gradients flow back")
    halt_max_steps: int = Field(1, ge=1, description="supervision steps, the state detached between them")
    halting: Literal["none", "act"] = Field("none", description="act: the expected loss over halting times")
    halt_by: Literal["sequence", "token"] = Field(
        "sequence", description="how long to think: decided once, or each token"
    )
    ponder_coef: float = Field(1e-3, ge=0, description="price of an expected H-cycle in act")
    act_weight: float = Field(0.5, ge=0, description="weight of the halting loss")
    every_step_weight: float = Field(1.0, ge=0, description="act: weight of the losses whenever it halts")
    schedule: str = Field("linear", description="weights over the H-cycles: deep supervision; none: the last alone")
    supervision_weight: float = Field(0.5, ge=0, le=10, description="weight of the H-cycles before the last")
    step_schedule: str = Field("uniform", description="weights over the supervision steps")
    step_weight: float = Field(0.5, ge=0, le=10, description="weight of the supervision steps before the last")
    curriculum_enabled: bool = Field(False, description="bring in the loss on earlier H-cycles gradually")
    curriculum_start_step: int = Field(0, ge=0, description="its weight is zero until here")
    curriculum_end_step: int = Field(0, ge=0, description="its weight is whole from here")

    batch_size: int = Field(64, ge=1, description="examples an optimizer step, over all processes")
    max_steps: int = Field(300, ge=1, description="optimizer steps; a named arm takes as many as cost as much")
    lr: float = Field(3e-3, gt=0, le=1, description="peak learning rate")
    lr_schedule: Literal["constant", "cosine"] = Field("cosine", description="rate after the warm-up")
    weight_decay: float = Field(0.01, ge=0, description="decoupled weight decay")
    warmup_steps: int = Field(50, ge=0, description="steps of linear warm-up")
    eval_interval: int = Field(50, ge=1, description="steps between evaluations on the validation part")
    valid_size: int = Field(250, ge=1, description="problems, or texts, for the live curve")
    test_size: int = Field(100, ge=1, description="problems of each number of steps, or texts, in the test")
    more_cycles: str = Field("1, 2, 3, 4, 6, 9", description="H-cycles at test time")
    table: str = Field("", description="file to write the arms' rows to, such as book/results/06_mine.csv")

    NOT_IN_RUN_ID: ClassVar[frozenset[str]] = RecursiveTraining.NOT_IN_RUN_ID | {"table"}

    @field_validator("schedule", "step_schedule")
    @classmethod
    def _known_schedule(cls, value: str) -> str:
        return known_schedule(value)

    @field_validator("arm", "versus")
    @classmethod
    def _known_arms(cls, value: str) -> str:
        for arm in arm_names(value):
            if arm not in LM_ARMS:
                raise ValueError(f"no arm {arm!r}; there are {', '.join(LM_ARMS)}")
        return value

    @field_validator("more_cycles")
    @classmethod
    def _cycles(cls, value: str) -> str:
        if not all(part.isdecimal() and int(part) for part in arm_names(value)):
            raise ValueError("wanted are whole numbers from 1 with commas, such as 1, 2, 4")
        return value

    @property
    def cycles(self) -> list[int]:
        """The H-cycles that are tried in the test."""
        return [int(part) for part in arm_names(self.more_cycles)]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.schedule != supervision.ADAPTIVE:
            checked_weights("schedule", self.schedule, self.H_cycles, self.supervision_weight)
        checked_weights("step_schedule", self.step_schedule, self.halt_max_steps, self.step_weight)
        if not self.min_steps <= self.max_problem_steps <= self.test_steps:
            raise ValueError(
                f"parameters 'min_steps', 'max_problem_steps', 'test_steps' = {self.min_steps}, {self.max_problem_steps}, "
                f"{self.test_steps} must not fall"
            )
        for name, value in LM_ARMS.get(self.arm, {}).items():
            own, default = getattr(self, name), type(self).model_fields[name].default
            if name != "num_layers" and own not in (value, default):
                raise ValueError(
                    f"parameter {name!r} = {own!r} is not what arm {self.arm!r} means; leave one of them out"
                )
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(
                f"parameter 'hidden_size' = {self.hidden_size} must be a multiple of 2 * num_heads = {2 * self.num_heads}"
            )
        if self.body == "looped" and self.backprop != "full":
            raise ValueError(f"parameter 'backprop' = {self.backprop!r} cuts at H-cycles of z_H; a loop takes 'full'")
        if self.body == "plain" and (self.schedule != "none" or self.halting != "none" or self.halt_max_steps > 1):
            raise ValueError(
                "parameter 'body' = 'plain' has one answer: give schedule 'none', halting 'none' and halt_max_steps 1 with it"
            )
        if self.data == "text" and (self.halting == "act" and self.halt_by == "sequence"):
            raise ValueError(
                "parameter 'halt_by' = 'sequence' decides at a prompt's end, and text has none; give 'token'"
            )
        if self.data == "text" and (self.chain or "chain" in arm_names(f"{self.arm}, {self.versus}")):
            raise ValueError("parameter 'chain': text has no chain of thought; leave it out, and the arm chain")
        return self

    def of_arm(self, arm: str) -> Self:
        """These parameters with what `arm` says in them; "": as they are."""
        changes = dict(LM_ARMS.get(arm, {}))
        if changes.get("num_layers") == 0:
            changes["num_layers"] = self.num_layers * self.H_cycles * (self.L_cycles + 1) * self.halt_max_steps
        return self.model_copy(update=changes)
