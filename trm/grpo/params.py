"""Parameters of chapter 08: GRPO with a correctness reward."""

from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from trm.grpo import rewards
from trm.params import did_you_mean
from trm.training_params import Training, world_size


class Grpo(Training):
    """Chapter 08: a language model rewarded for right answers."""

    COMPUTED_BY: ClassVar[str] = "trm.grpo.train"

    policy: Literal["tokens", "latents"] = Field(
        "tokens",
        description="tokens: the language model learns to write chains; latents: a reasoner learns to think for it",
    )
    lm: str = Field("", description="language model: name or path; empty: one that ships, for tokens one stopped early")
    reasoner: str = Field("", description="latents: folder of the reasoner to begin with; empty: the one that ships")
    latent_std: float = Field(0.2, gt=0, description="latents: std of the noise, as a share of that of word embeddings")
    algorithm: Literal["GRPO", "Dr.GRPO", "DAPO", "rejection_sampling"] = Field(
        "GRPO", description="advantages and normalisation; or the likelihood of rewarded answers alone"
    )
    reward: str = Field("right", description="reward of an answer, a name of trm.grpo.rewards")
    baseline_algorithm: Literal["", "GRPO", "Dr.GRPO", "DAPO", "rejection_sampling"] = Field(
        "rejection_sampling", description="also trained, without KL, on as many answers; empty: none"
    )
    latent_gradient: Literal["density", "answer"] = Field(
        "density", description="latents: policy gradient on their density, or through the answer's tokens"
    )
    group_size: int = Field(8, ge=2, description="answers per problem")
    updates_per_batch: int = Field(1, ge=1, description="optimizer steps on the same answers")
    clip_low: float = Field(0.2, gt=0, lt=1, description="the ratio of probabilities is clipped at 1 - clip_low")
    clip_high: float = Field(0.2, gt=0, description="the ratio of probabilities is clipped at 1 + clip_high")
    kl_coef: float = Field(0.01, ge=0, description="weight of the KL divergence to the initial model")
    resample: int = Field(0, ge=0, description="DAPO: times that dead groups are replaced by other problems")
    temperature: float = Field(1.0, gt=0, description="sampling temperature")
    max_new_tokens: int = Field(40, ge=1, description="most tokens of an answer")
    min_steps: int = Field(4, ge=1, description="fewest steps of a problem")
    max_problem_steps: int = Field(4, ge=1, description="most steps of a problem")
    valid_size: int = Field(200, ge=1, description="problems, kept out of training, for the live curve")
    test_size: int = Field(1000, ge=2, description="unseen problems, evaluated before and after")

    batch_size: int = Field(128, ge=2, description="answers per optimizer step (global batch size)")
    max_steps: int = Field(80, ge=1, description="optimizer steps")
    lr: float = Field(5e-5, gt=0, le=1, description="peak learning rate")
    warmup_steps: int = Field(5, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay; it moves weights without any reward")
    ema_decay: float = Field(0.0, ge=0, lt=1, description="decay of the averaged weights; 0: no averaging")
    eval_interval: int = Field(20, ge=1, description="steps between evaluations on the validation part")
    log_interval: int = Field(5, ge=1, description="steps between records of history.jsonl")
    checkpoint_interval: int = Field(60, ge=1, description="steps between checkpoints")

    @field_validator("reward")
    @classmethod
    def _known_reward(cls, value: str) -> str:
        if value not in rewards.REWARDS:
            hint = did_you_mean(value, rewards.REWARDS)
            raise ValueError(f"no such reward; {hint} There are {', '.join(rewards.REWARDS)}")
        return value

    @property
    def groups(self) -> int:
        """Problems per optimizer step."""
        return self.batch_size // self.group_size

    @model_validator(mode="after")
    def _groups_stay_whole(self) -> Self:
        parts, low, high = (
            self.group_size * self.grad_accumulation * world_size(),
            self.min_steps,
            self.max_problem_steps,
        )
        if self.batch_size % parts:
            product = f"group_size * grad_accumulation * processes = {parts}"
            raise ValueError(f"parameter 'batch_size' = {self.batch_size} must be a multiple of {product}")
        if self.policy == "latents" and self.latent_gradient == "density" and self.kl_coef:
            raise ValueError(f"parameter 'kl_coef' = {self.kl_coef}: a KL per latent is not one per token; give 0")
        if low > high:
            raise ValueError(f"parameter 'min_steps' = {low} must not exceed max_problem_steps = {high}")
        for name in ("log_interval", "eval_interval", "checkpoint_interval"):  # where a run may stop and go on later
            own, updates = getattr(self, name), self.updates_per_batch
            if own % updates:
                raise ValueError(f"parameter {name!r} = {own} must be a multiple of updates_per_batch = {updates}")
        return self
