"""Parameters of chapter 05: a dependency parser, and its arms."""

from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from trm import supervision
from trm.params import RecursiveTraining, checked_weights, known_schedule, world_size

# What each arm is: changes in the parameters of the chapter.
STANDARD = {"deep_supervision": False, "act_halting": False, "halting_mode": "fixed", "block": "pointer"}
PARSER_ARMS = {
    "one_iteration": STANDARD | {"max_inner_iters": 1},
    "standard": STANDARD,
    "deep_supervision": STANDARD | {"deep_supervision": True},
    "act_halting": STANDARD | {"act_halting": True, "halting_mode": "halting"},
    "both": STANDARD | {"deep_supervision": True, "act_halting": True, "halting_mode": "halting"},
    "encoder": STANDARD | {"block": "none"},  # nothing after the convolutions
    "layer": STANDARD | {"block": "layers", "plain_layers": 1},  # one plain layer with the parameters of the block
    "untied": STANDARD | {"block": "layers", "plain_layers": 0},  # as many plain layers as there are iterations
    # all that the parser has spent on plain layers
    "transformer": STANDARD | {"block": "layers", "plain_layers": 0, "conv_layers": 0},
}

SIZES = ("max_inner_iters", "conv_layers", "plain_layers")  # what an arm changes of the parser that it is held against


class Parsing(RecursiveTraining):
    """Chapter 05: a dependency parser, and what iterations, deep supervision and halting bring it."""

    COMPUTED_BY: ClassVar[str] = "trm.parsing.train"

    conllu_dir: str = Field(
        "", description="folder or file of CoNLL-U, or hub:CONFIG; empty: sentences of the shipped grammar"
    )
    train_size: int = Field(0, ge=0, description="sentences to train on; 0: all")
    use_upos: bool = Field(False, description="give the parser the treebank's part-of-speech tags")
    subtypes: bool = Field(False, description="labels with their subtypes, as nmod:poss")
    encoder: str = Field("", description="pretrained encoder, hub name or path, or package:NAME; empty: none")
    encoder_layers: int = Field(4, ge=1, description="last layers of it that are averaged")
    encoder_pool: Literal["first", "mean"] = Field("mean", description="subword that stands for a word, or their mean")

    arm: str = Field("", description="what is trained, one of PARSER_ARMS; empty: what the parameters say")
    max_inner_iters: int = Field(3, ge=1, description="iterations of the block")
    deep_supervision: bool = Field(False, description="a loss after every iteration")
    schedule: str = Field("ramp", description="weights over the iterations")
    supervision_weight: float = Field(0.5, ge=0, le=10, description="weight of the iterations before the last")
    act_halting: bool = Field(False, description="expected loss over halting times (differentiable halting)")
    ponder_coef: float = Field(1e-3, ge=0, description="price of an expected iteration in act_halting")
    halting_mode: Literal["fixed", "entropy", "halting"] = Field("fixed", description="when a parsed sentence stops")
    entropy_threshold: float = Field(1.0, ge=0, description="nats of routing entropy below which entropy stops")
    block: Literal["pointer", "layers", "none"] = Field(
        "pointer", description="routed and shared, plain layers, nothing"
    )
    plain_layers: int = Field(0, ge=0, description="layers of block layers; 0: as the arm needs")
    versus: str = Field("deep_supervision", description="a second arm, trained at equal compute; empty: none")

    hidden_size: int = Field(64, ge=8, description="width D")
    conv_layers: int = Field(2, ge=0, description="gated convolutions before the block")
    conv_width: int = Field(3, ge=1, description="words that a convolution sees")
    num_heads: int = Field(4, ge=1, description="attention heads, which the controller weighs")
    expansion: float = Field(2.0, gt=0, description="expansion of the SwiGLU")
    controller: Literal["static", "recurrent"] = Field("static", description="weights from the state, or from a GRU")
    routing: Literal["soft", "topk", "gumbel"] = Field(
        "soft", description="weights of all heads, of the best, with noise"
    )
    top_k: int = Field(2, ge=1, description="heads that routing topk keeps")
    temperature: float = Field(1.0, gt=0, description="of the controller's softmax")
    arc_size: int = Field(64, ge=1, description="size of the vectors that arcs are scored with")
    label_size: int = Field(32, ge=1, description="size of the vectors that labels are scored with")
    dropout: float = Field(0.1, ge=0, lt=1, description="of embeddings and of the vectors that are scored")
    inner_dropout: float = Field(0.1, ge=0, lt=1, description="of the convolutions and of the block")
    word_dropout: float = Field(0.1, ge=0, lt=1, description="chance that a word is read as unknown")
    tag_weight: float = Field(0.2, ge=0, description="weight of guessing the tags, in training; 0: they are not read")

    epochs: float = Field(20, gt=0, description="passes over the training part; a named arm gets as much compute")
    batch_tokens: int = Field(1000, ge=1, description="words an optimizer step, over all processes")
    batch_size: int = Field(
        0, ge=0, description="sentences an optimizer step in place of batch_tokens; 0: as many as fit"
    )
    max_steps: int = Field(0, ge=0, description="optimizer steps, in place of epochs; 0: epochs says")
    lr_schedule: Literal["constant", "cosine"] = Field("cosine", description="rate after the warm-up")
    warmup_steps: int = Field(50, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay")
    grad_clip: float = Field(5.0, ge=0, description="largest gradient norm; 0: no clipping")
    eval_interval: int = Field(0, ge=0, description="steps between evaluations on the dev part; 0: an epoch")
    checkpoint_interval: int = Field(0, ge=0, description="steps between checkpoints; 0: an epoch")
    table: str = Field("", description="file to write the arms' rows to, such as book/results/05_ewt.csv")
    resamples: int = Field(2000, ge=100, description="draws of the bootstrap over sentences")

    NOT_IN_RUN_ID: ClassVar[frozenset[str]] = RecursiveTraining.NOT_IN_RUN_ID | {"table"}

    @field_validator("schedule")
    @classmethod
    def _known_schedule(cls, value: str) -> str:
        return known_schedule(value)

    @field_validator("arm", "versus")
    @classmethod
    def _known_arm(cls, value: str) -> str:
        if value and value not in PARSER_ARMS:
            raise ValueError(f"no such arm; there are {', '.join(PARSER_ARMS)}")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.schedule != supervision.ADAPTIVE:
            checked_weights("schedule", self.schedule, self.max_inner_iters, self.supervision_weight)
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(
                f"parameter 'hidden_size' = {self.hidden_size} must be a multiple of 2 * num_heads = {2 * self.num_heads}"
            )
        if self.act_halting and self.halting_mode != "halting":
            raise ValueError(
                "parameter 'act_halting' = True teaches the head that halting_mode 'halting' reads; give both"
            )
        if self.halting_mode == "halting" and not (self.act_halting or self.arm):
            raise ValueError(
                "parameter 'halting_mode' = 'halting' reads a head that act_halting True teaches; give both"
            )
        if self.block != "pointer" and (self.deep_supervision or self.act_halting or self.halting_mode != "fixed"):
            raise ValueError(f"parameter 'block' = {self.block!r} has no iterations to supervise or to stop after")
        for name, value in PARSER_ARMS.get(self.arm, {}).items():
            own, default = getattr(self, name), type(self).model_fields[name].default
            if name not in SIZES and own not in (value, default):
                raise ValueError(
                    f"parameter {name!r} = {own!r} is not what arm {self.arm!r} means; leave one of them out"
                )
        if world_size() > 1 and self.versus:
            raise ValueError("several processes train one arm: give versus '' with them")
        return self

    def of_arm(self, arm: str) -> Self:
        """These parameters with what `arm` says in them; "": as they are."""
        return self.model_copy(update=PARSER_ARMS.get(arm, {}))
