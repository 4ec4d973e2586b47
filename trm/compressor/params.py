"""Parameters of chapter 01, compressors of hidden states."""

from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from trm.params import Params
from trm.training_params import Training, arm_names

COMPRESSORS = ("tied", "untied", "affine", "nonlinear", "task_aware")


class Compression(Training):
    """Chapter 01: compress the hidden states of a language model."""

    COMPUTED_BY: ClassVar[str] = "trm.compressor.train"
    RUN_FOLDERS: ClassVar[tuple[str, ...]] = ("compressors", "states")
    NOT_IN_RUN_ID: ClassVar[frozenset[str]] = Params.NOT_IN_RUN_ID | {"cache", "cache_dir"}

    lm: str = Field("", description="language model, hub name or path, or package:NAME; empty: the one that ships")
    layer: int = Field(-1, description="layer of the states: 1 is the first block, -1 the input of the output head")
    stage: Literal["1a", "1b", "both"] = Field(
        "both", description="1a: ordinary text; 1b: thoughts, from the 1a compressor; both: 1a, then 1b at d_compressed"
    )
    init_from: str = Field("", description="run folder with the 1a compressors for stage 1b; empty: this run's")
    text_path: str = Field("", description="text: .txt, .jsonl or hub:NAME; empty: answers of the shipped generator")
    cot_path: str = Field("", description="thoughts: .txt, .jsonl or hub:NAME; empty: chains of the shipped generator")
    text_column: str = Field("", description="field of the texts; empty: text, question or generations")
    num_samples: int = Field(2000, ge=1, description="sequences to train on")
    eval_samples: int = Field(200, ge=1, description="validation sequences, and as many test sequences")
    max_seq_length: int = Field(128, ge=2, description="most tokens of a sequence")
    skip_first: int = Field(1, ge=0, description="first tokens of each sequence to leave out")
    cache: bool = Field(True, description="cache the states on disk; else they are computed each epoch")
    cache_dir: str = Field("", description="folder of the cache, shared by runs; empty: this run's, until it ends")
    d_compressed: int = Field(32, ge=1, description="size K of the compressed state")
    expansion: float = Field(2.0, gt=0, description="inner width of the MLPs of nonlinear, in D")
    sweep_d_values: str = Field("4, 8, 16, 32, 64", description="K of the trade-off curve; empty: d_compressed alone")
    arms: str = Field("tied, nonlinear, task_aware", description="compressors trained by gradient descent at each K")
    num_epochs: int = Field(5, ge=1, description="epochs, at most")
    batch_size: int = Field(32, ge=1, description="sequences per optimizer step, over all processes")
    lr: float = Field(2e-2, gt=0, le=1, description="peak learning rate")
    lr_schedule: Literal["constant", "cosine"] = Field("cosine", description="rate after the warm-up")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay")
    ema_decay: float = Field(0.0, ge=0, lt=1, description="decay of the averaged weights; 0: no averaging")
    max_steps: int = Field(0, ge=0, description="optimizer steps of each compressor; 0: num_epochs")
    eval_interval: int = Field(0, ge=0, description="steps between evaluations on the validation part; 0: an epoch")
    checkpoint_interval: int = Field(0, ge=0, description="steps between checkpoints; 0: an epoch")
    early_stopping: bool = Field(True, description="stop after early_stopping_patience epochs without gain")
    early_stopping_patience: int = Field(3, ge=1, description="early-stopping patience, in evaluations")
    problems: int = Field(64, ge=1, description="arithmetic problems to answer with compressed states")

    @field_validator("sweep_d_values")
    @classmethod
    def _sizes(cls, value: str) -> str:
        sizes = arm_names(value)
        if not all(size.isdecimal() and int(size) for size in sizes) or len(set(map(int, sizes))) < len(sizes):
            raise ValueError("give different whole numbers from 1, separated by commas, such as 4, 8, 16")
        return value

    @field_validator("arms")
    @classmethod
    def _known_compressors(cls, value: str) -> str:
        for arm in arm_names(value):
            if arm not in COMPRESSORS or arm_names(value).count(arm) > 1:
                raise ValueError(f"no compressor {arm!r}, or named twice; there are {', '.join(COMPRESSORS)}")
        return value

    @property
    def sizes(self) -> list[int]:
        """The sizes K to compare, smallest first."""
        return sorted(map(int, arm_names(self.sweep_d_values))) or [self.d_compressed]

    @property
    def stages(self) -> list[str]:
        """The stages, in order."""
        return ["1a", "1b"] if self.stage == "both" else [self.stage]

    @model_validator(mode="after")
    def _starts_somewhere(self) -> Self:
        if self.init_from and self.stage != "1b":
            raise ValueError("parameter 'init_from' requires stage 1b")
        return self
