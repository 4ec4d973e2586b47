"""Causal language models of `transformers`, by hub name, by path, or the small one that ships: training, states, answers."""

import hashlib
import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, SmolLM3Config, SmolLM3ForCausalLM
from transformers.utils.logging import disable_progress_bar, enable_progress_bar

from trm.checkpoint import PRETRAINED
from trm.errors import UserError
from trm.language.stories import Problem, prompt, read_answer
from trm.losses import IGNORE_INDEX
from trm.protocol import StepOutput, whole_sum

SHIPPED_LM = PRETRAINED / "reasoning_lm"
BATCH_SIZE = 250  # problems that are answered at once
FINAL_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm", "final_norm", "norm_f")  # names in transformers


def load_lm(name: str = "", precision: str = "float32") -> tuple:
    """A model and its tokenizer; a causal language model where `name` is one, else the bare encoder.

    name: a folder, or NAME or OWNER/NAME of the hub; "package:NAME" for one in a Python package with `get_model_path()`; empty:
    the one that ships. What begins as a path or has more parts is never asked of the hub.
    """
    where = str(Path(name).expanduser()) if name else str(SHIPPED_LM)
    is_path = name.startswith(("/", ".", "~")) or len(Path(name).parts) > 2 or Path(*Path(name).parts[:1]).is_dir()
    if name and is_path and not Path(where).is_dir():
        raise UserError(f"{Path(where).absolute()}: no such folder; give one of a language model, or a name of the hub")
    try:
        if name.startswith("package:"):
            where = str(importlib.import_module(name.removeprefix("package:")).get_model_path())
        tokenizer = AutoTokenizer.from_pretrained(where)
        config = AutoConfig.from_pretrained(where)
        if config.is_encoder_decoder:
            raise ValueError("an encoder-decoder; give a causal language model or an encoder")
        if (depth := getattr(config, "num_hidden_layers", 0)) > 1000:
            raise ValueError(f"its config.json asks for {depth} layers")
        causal = any("CausalLM" in kind or "LMHead" in kind for kind in config.architectures or [])
        kind = AutoModelForCausalLM if causal else AutoModel
        if Path(where).exists():
            disable_progress_bar()  # nothing is downloaded
        model, found = kind.from_pretrained(where, dtype=getattr(torch, precision), output_loading_info=True)
        if missing := [weight for weight in found["missing_keys"] if "pooler" not in weight]:  # transformers draws them
            raise ValueError(f"without the weights {', '.join(sorted(missing))}")
    except Exception as error:  # the hub's client, tokenizers, safetensors and transformers each raise their own
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"the language model {where} could not be loaded ({why}); check its name") from None
    finally:
        enable_progress_bar()
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)  # pads are masked
    return model.eval(), tokenizer


def smollm3(tokenizer, hidden_size: int, num_layers: int, seed: int) -> SmolLM3ForCausalLM:
    """SmolLM3's architecture with random weights: heads of size 32, half as many for keys, SwiGLU of 8/3."""
    torch.manual_seed(seed)
    heads = max(hidden_size // 32, 1)
    config = SmolLM3Config(
        vocab_size=len(tokenizer), hidden_size=hidden_size, intermediate_size=8 * hidden_size // 3 // 16 * 16,
        num_hidden_layers=num_layers, num_attention_heads=heads, num_key_value_heads=max(heads // 2, 1),
        max_position_embeddings=256, pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return SmolLM3ForCausalLM(config)


class CausalLM(nn.Module):
    """A language model for the trainer: `loss(batch)` is the weighted mean cross-entropy of the next token, in nats.

    batch: input_ids (B, T); labels (B, T), `IGNORE_INDEX` where nothing is learned; weights (B, T).
    """

    def __init__(self, lm: nn.Module):
        super().__init__()
        self.lm = lm

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the language model into `folder` as transformers does."""
        self.lm.save_pretrained(folder)

    def loss(self, batch: dict[str, Tensor], state: None = None, detail: bool = False) -> StepOutput:
        """One training step; metrics `total_loss`, and `token_accuracy` over positions of weight 1."""
        logits = self.lm(input_ids=batch["input_ids"], use_cache=False).logits[:, :-1]  # (B, T - 1, V)
        labels, weights = batch["labels"][:, 1:], batch["weights"][:, 1:]
        losses = F.cross_entropy(logits.float().transpose(1, 2), labels, ignore_index=IGNORE_INDEX, reduction="none")
        loss = (losses * weights).sum() / whole_sum(batch, "weight_sum", weights).clamp_min(1)
        answers = (weights == 1) & (labels != IGNORE_INDEX)
        right = ((logits.argmax(-1) == labels) & answers).sum() / whole_sum(batch, "answer_sum", answers).clamp_min(1)
        return StepOutput(loss, None, {"total_loss": loss.detach(), "token_accuracy": right.detach()}, logits)

    def shared(self, batch: dict[str, Tensor], state: None = None) -> dict[str, Tensor]:
        """The sums that means over tokens divide by: of the weights, and of the tokens whose accuracy is measured."""
        weights = batch["weights"][:, 1:]
        answers = (weights == 1) & (batch["labels"][:, 1:] != IGNORE_INDEX)
        return {"weight_sum": weights.sum(), "answer_sum": answers.sum().float()}

    forward = loss


def end_ids(lm: nn.Module, tokenizer) -> list[int]:
    """The tokens that end an answer: the tokenizer's, and those of the model's generation config, which may name several."""
    named = getattr(getattr(lm, "generation_config", None), "eos_token_id", None)
    named = named if isinstance(named, list) else [named]
    return sorted({token for token in [tokenizer.eos_token_id, *named] if token is not None})


def up_to_end(tokens: Sequence[int], ends: Sequence[int]) -> list[int]:
    """The tokens up to the first that ends an answer, it included. What follows is padding, whose id may be that of an end."""
    last = next((i for i, token in enumerate(tokens) if token in ends), len(tokens) - 1)
    return list(tokens[: last + 1])


def completion_text(tokenizer, tokens: Sequence[int], ends: Sequence[int]) -> str:
    """The text of a completion, up to its end. A token that ends it and is not the `<eos>` that `read_answer` knows is left
    out."""
    if tokens and tokens[-1] in ends and tokenizer.convert_ids_to_tokens(tokens[-1]) != "<eos>":
        tokens = tokens[:-1]
    return tokenizer.decode(tokens)


@dataclass(frozen=True)
class Generations:
    """Completions of problems: texts, the answers read from them (None: no answer), numbers of tokens."""

    texts: list[str]
    answers: list[int | None]
    tokens: list[int]

    def accuracy(self, problems: Sequence[Problem]) -> float:
        """Share of problems with the right answer."""
        return sum(a == p.answer for a, p in zip(self.answers, problems)) / max(len(problems), 1)


@torch.no_grad()
def generate_greedy(lm: nn.Module, tokenizer, problems: Sequence[Problem], thinking: bool) -> Generations:
    """Greedy completions of the prompts of `problems`, with or without a chain of thought."""
    texts, answers, tokens, ends = [], [], [], end_ids(lm, tokenizer)
    longest = 12 * max((len(p.steps) for p in problems), default=1) + 8 if thinking else 6
    for i in range(0, len(problems), BATCH_SIZE):
        prompts = [prompt(p, thinking) for p in problems[i : i + BATCH_SIZE]]
        batch = tokenizer(prompts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt")
        ids, mask = batch["input_ids"].to(lm.device), batch["attention_mask"].to(lm.device)
        out = lm.generate(input_ids=ids, attention_mask=mask, max_new_tokens=longest, do_sample=False)
        for row in out[:, ids.shape[1] :].tolist():
            kept = up_to_end(row, ends)
            texts.append(tokenizer.decode(kept))
            answers.append(read_answer(completion_text(tokenizer, kept, ends)))
            tokens.append(len(kept))
    return Generations(texts, answers, tokens)


class StateReader:
    """The hidden states of one layer of a model, and its output when they are replaced.

    Args:
        model: any model of `transformers` with a stack of blocks; it is frozen.
        layer: 1 is the output of the first block; the last (also -1) is the input of the head, after the final norm.
    """

    def __init__(self, model: nn.Module, layer: int = -1):
        self.model = model.eval().requires_grad_(False)
        body = model.base_model
        depth = getattr(model.config, "num_hidden_layers", 0)
        stacks = [m for m in body.modules() if isinstance(m, nn.ModuleList) and depth and len(m) == depth]
        if not stacks:
            raise UserError(f"{type(model).__name__} has no stack of blocks; give a transformer's name")
        self.layer = depth + 1 + layer if layer < 0 else layer
        if not 1 <= self.layer <= depth:
            raise UserError(f"layer {layer}: {type(model).__name__} has layers 1 to {depth} (or -1 to {-depth})")
        norms = [getattr(body, name) for name in FINAL_NORMS if getattr(body, name, None) is not None]
        self.module = norms[0] if self.layer == depth and norms else stacks[0][self.layer - 1]
        self.head = model.get_output_embeddings()
        self.hidden_size = model.config.hidden_size
        self.last = self.layer == depth and (self.head is None or self._head_is_all())

    @property
    def device(self) -> torch.device:
        """That of the model."""
        return self.model.device

    @torch.no_grad()
    def _head_is_all(self) -> bool:
        """Whether the head alone gives the model's logits: some models scale, cap or normalise between."""
        ids = torch.arange(1, 9, device=self.device)[None] % self.model.config.vocab_size
        logits = self.logits(ids, torch.ones_like(ids)).float()
        of_head = self.head(self.states(ids, torch.ones_like(ids)).to(self.head.weight)).float()
        return bool((of_head - logits).abs().max() <= 1e-2 * logits.abs().max())

    @torch.no_grad()
    def states(self, ids: Tensor, attention: Tensor) -> Tensor:
        """Token ids (B, T), attention (B, T) -> states (B, T, D)."""
        kept: list[Tensor] = []

        def keep(states: Tensor) -> Tensor:
            kept.append(states)
            return states

        with self.replaced(keep):
            self.model.base_model(**self._inputs(ids, attention))
        return kept[0]

    def logits(self, ids: Tensor, attention: Tensor, change: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Logits (B, T, V) of the model, with its states x of this layer replaced by change(x)."""
        with self.replaced(change):
            return self.model(**self._inputs(ids, attention)).logits

    @contextmanager
    def replaced(self, change: Callable[[Tensor], Tensor] | None) -> Iterator[None]:
        """In this context the model computes with change(x) in place of the states x of this layer."""

        def put(module, given, out):
            states = out[0] if isinstance(out, tuple) else out
            changed = change(states.float()).to(states.dtype)
            return (changed, *out[1:]) if isinstance(out, tuple) else changed

        with self.module.register_forward_hook(put) if change else nullcontext():
            yield

    def lm_head(self, states: Tensor) -> Tensor:
        """Logits (N, V) of states (N, D) of the last layer; UserError where the head alone does not give the logits."""
        if self.head is None or not self.last:
            raise UserError("only states of the last layer of a model with a head can be read by the head alone")
        return self.head(states.to(self.head.weight))

    def _inputs(self, ids: Tensor, attention: Tensor) -> dict:
        inputs = {"input_ids": ids.to(self.device), "attention_mask": attention.to(self.device).long()}
        return inputs | ({"use_cache": False} if hasattr(self.model.config, "use_cache") else {})


def weights_digest(model: nn.Module) -> str:
    """A digest of a model's weights, so that cached states of one model are not taken for those of another."""
    found = hashlib.sha256()
    for name, value in model.state_dict().items():
        value = value.float()
        found.update(f"{name} {float(value.sum()):.9e} {float(value.square().sum()):.9e}".encode())
    return found.hexdigest()[:16]
