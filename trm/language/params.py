"""Parameters of the training of the small language model that ships."""

from typing import Literal, Self

from pydantic import Field, model_validator

from trm.params import Training


class ReasoningLM(Training):
    """The language model that ships: `python -m trm.language.pretrain`."""

    hidden_size: int = Field(192, ge=32, description="width D")
    num_layers: int = Field(4, ge=1, description="blocks")
    min_steps: int = Field(2, ge=1, description="fewest steps of a problem")
    max_problem_steps: int = Field(6, ge=1, description="most steps of a problem")
    question_weight: float = Field(0.1, ge=0, le=1, description="weight of the prompt's tokens in the loss")
    valid_size: int = Field(100, ge=1, description="problems, kept out of training, for the live curve")
    test_size: int = Field(2000, ge=1, description="problems of the final test")
    batch_size: int = Field(64, ge=1, description="examples an optimizer step, over all processes")
    max_steps: int = Field(4000, ge=1, description="optimizer steps; what ends a run")
    lr: float = Field(3e-3, gt=0, le=1, description="peak learning rate")
    lr_schedule: Literal["constant", "cosine"] = Field("cosine", description="rate after the warm-up")
    warmup_steps: int = Field(100, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(0.05, ge=0, description="decoupled weight decay")
    ema_decay: float = Field(0.995, ge=0, lt=1, description="decay of the averaged weights; 0: no averaging")
    eval_interval: int = Field(250, ge=1, description="steps between evaluations on the validation part")
    checkpoint_interval: int = Field(500, ge=1, description="steps between checkpoints")
    early_stopping_patience: int = Field(1, ge=0, description="evaluations without gain that end a run; 0: never")

    @model_validator(mode="after")
    def _steps_in_order(self) -> Self:
        if self.min_steps > self.max_problem_steps:
            raise ValueError(
                f"parameter 'min_steps' = {self.min_steps} must not exceed max_problem_steps = {self.max_problem_steps}"
            )
        return self
