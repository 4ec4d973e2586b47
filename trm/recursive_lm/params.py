"""Parameters of chapter 06: a recursive language model, and its arms."""

from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from trm import supervision
from trm.recursive_lm.model import LMParams
from trm.training_params import ArmTraining, arm_names, checked_weights

# What each arm changes in the parameters of the chapter. A plain arm has no cycles to supervise.
PLAIN = {"body": "plain", "schedule": "none", "random_cycles": False}
LM_ARMS = {
    "recursive": {"body": "recursive"},
    "last_only": {"body": "recursive", "schedule": "none"},  # no deep supervision: a loss on the last answer alone
    "looped": {"body": "looped"},  # the shared blocks applied as often, without z_H and z_L
    "random_loops": {"body": "looped", "random_cycles": True},  # the same, and the number of loops drawn for each batch
    "same_parameters": PLAIN,  # the blocks once
    "same_compute": PLAIN | {"num_layers": 0},  # as many blocks as the recursion applies; 0: counted by `of_arm`
    "chain": PLAIN | {"chain": True},  # the blocks once, and the chain written before the answer
}


class RecursiveLM(ArmTraining, LMParams):
    """Chapter 06: a recursive language model and plain ones, on arithmetic without a chain of thought."""

    COMPUTED_BY: ClassVar[str] = "trm.recursive_lm.train"
    ARMS: ClassVar[dict] = LM_ARMS
    FREE: ClassVar[tuple[str, ...]] = ("num_layers",)

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
    embeddings: str = Field("shipped", description="frozen token embeddings: model, path or shipped; empty: learned")

    arm: str = Field("recursive", description="what is trained; empty: what the parameters say", examples=[*LM_ARMS])
    baseline_arm: str = Field("same_compute", description="a list of more arms, trained at equal compute; empty: none")
    batch_size: int = Field(64, ge=1, description="examples per optimizer step (global batch size)")
    max_steps: int = Field(300, ge=1, description="optimizer steps; those of a named arm are scaled to equal FLOPs")
    lr: float = Field(3e-3, gt=0, le=1, description="peak learning rate")
    lr_schedule: Literal["constant", "cosine"] = Field("cosine", description="rate after the warm-up")
    weight_decay: float = Field(0.01, ge=0, description="decoupled weight decay")
    warmup_steps: int = Field(50, ge=0, description="steps of linear warm-up")
    eval_interval: int = Field(50, ge=1, description="steps between evaluations on the validation part")
    valid_size: int = Field(250, ge=1, description="problems, or texts, for the live curve")
    test_size: int = Field(100, ge=1, description="problems of each number of steps, or texts, in the test")
    more_cycles: str = Field("1, 2, 3, 4, 6, 9", description="numbers of H-cycles at test time")
    table: str = Field("", description="CSV file to write the rows of the arms to, such as book/results/06_mine.csv")

    NOT_IN_RUN_ID: ClassVar[frozenset[str]] = ArmTraining.NOT_IN_RUN_ID | {"table"}

    @field_validator("arm", "baseline_arm")
    @classmethod
    def _known_arm(cls, value: str) -> str:
        if unknown := [arm for arm in arm_names(value) if arm not in LM_ARMS]:
            raise ValueError(f"no arm {unknown[0]!r}; there are {', '.join(LM_ARMS)}")
        return value

    @field_validator("more_cycles")
    @classmethod
    def _cycles(cls, value: str) -> str:
        if not all(part.isdecimal() and int(part) for part in arm_names(value)):
            raise ValueError("give whole numbers from 1 with commas, such as 1, 2, 4")
        return value

    @property
    def cycles(self) -> list[int]:
        """The numbers of H-cycles of the test."""
        return [int(part) for part in arm_names(self.more_cycles)]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.schedule != supervision.ADAPTIVE:
            checked_weights("schedule", self.schedule, self.H_cycles, self.supervision_weight)
        steps = [self.min_steps, self.max_problem_steps, self.test_steps]
        if steps != sorted(steps):
            raise ValueError(f"parameters 'min_steps', 'max_problem_steps', 'test_steps' = {steps} must not fall")
        if self.body == "looped" and self.backprop != "full":
            raise ValueError(f"parameter 'backprop' = {self.backprop!r} cuts at H-cycles; a loop requires 'full'")
        if self.body == "plain" and (self.schedule != "none" or self.random_cycles):
            raise ValueError("parameter 'body' = 'plain' has one answer: it requires schedule 'none', no random_cycles")
        if self.random_cycles and self.schedule not in supervision.schedule_names():
            raise ValueError("parameter 'random_cycles' draws cycles: give a schedule by its name, not its weights")
        if self.data == "text" and (self.chain or "chain" in arm_names(f"{self.arm}, {self.baseline_arm}")):
            raise ValueError("parameter 'chain': text has no chain of thought; leave it out, and the arm chain")
        return self

    def of_arm(self, arm: str) -> Self:
        """These parameters with the changes of `arm`; "": as they are."""
        changes = dict(LM_ARMS.get(arm, {}))
        if changes.get("num_layers") == 0:
            changes["num_layers"] = self.num_layers * self.H_cycles * (self.L_cycles + 1)
        return self.model_copy(update=changes)
