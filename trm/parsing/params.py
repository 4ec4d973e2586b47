"""Parameters of chapter 05: a dependency parser, and its arms."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from trm import supervision
from trm.parsing.model import ParserParams
from trm.training_params import ArmTraining, checked_weights, world_size

# What each arm changes in the parameters of the chapter.
STANDARD = {"deep_supervision": False, "act_halting": False, "halting_mode": "fixed", "block": "pointer"}
PARSER_ARMS = {
    "one_iteration": STANDARD | {"max_inner_iters": 1},
    "standard": STANDARD,
    "deep_supervision": STANDARD | {"deep_supervision": True},
    "injection": STANDARD | {"input_injection": True},
    "deep_injection": STANDARD | {"deep_supervision": True, "input_injection": True},
    "act_halting": STANDARD | {"act_halting": True, "halting_mode": "halting"},
    "both": STANDARD | {"deep_supervision": True, "act_halting": True, "halting_mode": "halting"},
    "encoder": STANDARD | {"block": "none"},  # nothing after the convolutions
    "layer": STANDARD | {"block": "layers", "plain_layers": 1},  # one plain layer with the parameters of the block
    "untied": STANDARD | {"block": "layers", "plain_layers": 0},  # as many plain layers as there are iterations
    # plain layers with all parameters of the convolutions and of the block
    "transformer": STANDARD | {"block": "layers", "plain_layers": 0, "conv_layers": 0},
}


class Parsing(ArmTraining, ParserParams):
    """Chapter 05: a dependency parser, and what iterations, deep supervision and halting change."""

    COMPUTED_BY: ClassVar[str] = "trm.parsing.train"
    ARMS: ClassVar[dict] = PARSER_ARMS
    FREE: ClassVar[tuple[str, ...]] = ("max_inner_iters", "conv_layers", "plain_layers")
    NOT_IN_RUN_ID: ClassVar[frozenset[str]] = ArmTraining.NOT_IN_RUN_ID | {"table"}

    conllu_dir: str = Field(
        "",
        description="folder or file of CoNLL-U, or hub:CONFIG; agreement:HOPS: generated sentences in free word order, whose "
        "modifiers agree with a word that HOPS arcs (0 to 3) lead to; empty: the shipped grammar",
    )
    bad_sentences: Literal["stop", "skip"] = Field(
        "stop", description="what to do with a broken sentence of a treebank; skip: leave it out, and say so"
    )
    train_size: int = Field(0, ge=0, description="sentences to train on; 0: all")
    subtypes: bool = Field(False, description="labels with their subtypes, as nmod:poss")
    arm: str = Field("", description="what is trained; empty: what the parameters say", examples=[*PARSER_ARMS])
    baseline_arm: str = Field("deep_supervision", description="a second arm; empty: none")
    equal: Literal["flops", "epochs"] = Field("flops", description="what a named arm gets as much of as parameters say")

    epochs: float = Field(20, gt=0, description="passes over the training part; for a named arm see `equal`")
    batch_tokens: int = Field(1000, ge=1, description="words per optimizer step, over all processes")
    batch_size: int = Field(0, ge=0, description="sentences per optimizer step; 0: by batch_tokens")
    max_steps: int = Field(0, ge=0, description="optimizer steps in place of epochs; 0: by epochs")
    lr_schedule: Literal["constant", "cosine"] = Field("cosine", description="rate after the warm-up")
    warmup_steps: int = Field(50, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay")
    grad_clip: float = Field(5.0, ge=0, description="largest gradient norm; 0: no clipping")
    eval_interval: int = Field(0, ge=0, description="steps between evaluations on dev; 0: an epoch")
    checkpoint_interval: int = Field(0, ge=0, description="steps between checkpoints; 0: an epoch")
    table: str = Field("", description="file for the arms' rows, such as book/results/05_ewt.csv; curves go beside it")
    tolerance: float = Field(
        0.001,
        ge=0,
        le=1,
        description="UAS on dev that stopping by entropy may lose, for the threshold that is chosen there",
    )
    resamples: int = Field(2000, ge=100, description="resamples of the bootstrap over sentences")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        halts = self.halting_mode == "halting"
        if self.schedule != supervision.ADAPTIVE:
            checked_weights("schedule", self.schedule, self.max_inner_iters, self.supervision_weight)
        if halts != self.act_halting and not (halts and self.arm):
            raise ValueError("halting_mode 'halting' reads the head that act_halting True trains: give both or neither")
        if self.block != "pointer" and (self.deep_supervision or self.act_halting or self.halting_mode != "fixed"):
            raise ValueError(f"parameter 'block' = {self.block!r} has no iterations to supervise or to stop after")
        if world_size() > 1 and self.baseline_arm:
            raise ValueError("several processes train one arm: give baseline_arm '' with them")
        return self
