"""A tiny recursive model in one file, on torch alone, that learns 6x6 Sudoku: python book/manual/minimal_trm.py

Source: "Less is More: Recursive Reasoning with Tiny Networks", arXiv 2510.04871. Shapes: B puzzles, T cells, D width, V tokens.
Simplified: gradients flow through all H-cycles (the paper: through the last); no checkpoints, no devices, one size of puzzle.
"""

import copy
import csv
import lzma
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

PACK = Path(__file__).resolve().parents[2] / "trm" / "puzzles" / "packs" / "sudoku_6x6.csv.xz"
SIZE, BOX_ROWS, BOX_COLS = 6, 2, 3  # T = SIZE * SIZE cells; token ids: 0 unused, 1 a blank cell, d + 1 the digit d
WIDTH, CELL_INNER, CHANNEL_INNER = 64, 48, 88  # D; inner widths of the SwiGLUs over cells and over channels
H_CYCLES, L_CYCLES, MAX_STEPS, EVAL_STEPS = 2, 2, 6, 12  # supervision steps: at most 6 in training, 12 in evaluation
BATCH, UPDATES, LR, WARM_UP, EMA_DECAY, EXPLORATION = 48, 1000, 4e-3, 20, 0.99, 0.3


# --- data: puzzles as token ids, each under a random symmetry ---
def read_pack(part: str) -> torch.Tensor:
    """Questions and answers of a part, "train" or "test": (N, 2, T) digits, 0 for a blank cell."""
    with lzma.open(PACK, "rt", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == part]
    return torch.tensor([[[int(c) for c in row[k].replace(".", "0")] for k in ("question", "answer")] for row in rows])


def shuffled_lines(group: int) -> torch.Tensor:
    """Random orders of the rows (or columns) of B grids that keep each `group` of lines together: (B, SIZE)."""
    groups = torch.rand(BATCH, SIZE // group, 1).argsort(1)
    within = torch.rand(BATCH, SIZE // group, group).argsort(2)
    return (group * groups + within).flatten(1)


def draw_batch(grids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Random puzzles with rows, columns and digits exchanged: token ids of questions and answers, (B, T) each."""
    cells = SIZE * shuffled_lines(BOX_ROWS)[:, :, None] + shuffled_lines(BOX_COLS)[:, None, :]  # where each comes from
    moved = grids[torch.randint(len(grids), (BATCH,))].gather(2, cells.view(BATCH, 1, -1).expand(-1, 2, -1))
    digits = F.pad(torch.rand(BATCH, SIZE).argsort(1) + 1, (1, 0))  # (B, SIZE + 1) new digits, blank stays 0
    return (digits.gather(1, moved.flatten(1)).view_as(moved) + 1).unbind(1)


# --- model: one small network, applied again and again ---
class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)) along the last axis."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.gate_up_proj, self.down_proj = nn.Linear(width, 2 * inner, bias=False), nn.Linear(inner, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate) * up)


class Block(nn.Module):
    """Mix the cells, then the channels; after each a residual sum and RMSNorm without gain. (B, T, D) -> (B, T, D)."""

    def __init__(self):
        super().__init__()
        self.mixer, self.mlp = SwiGLU(SIZE * SIZE, CELL_INNER), SwiGLU(WIDTH, CHANNEL_INNER)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.rms_norm(x.mT + self.mixer(x.mT), (SIZE * SIZE,), eps=1e-5).mT
        return F.rms_norm(x + self.mlp(x), (WIDTH,), eps=1e-5)


class TRM(nn.Module):
    """The state is an answer z_H and a latent thought z_L; `net` refines z_L, then z_H, given the question x."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Parameter(torch.randn(SIZE + 2, WIDTH) / WIDTH**0.5)  # (V, D)
        self.net = nn.Sequential(Block())  # more blocks may stand here
        self.lm_head = nn.Linear(WIDTH, SIZE + 2, bias=False)  # reads the answer
        for layer in (module for module in self.modules() if isinstance(module, nn.Linear)):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
        self.q_head = nn.Linear(WIDTH, 1)  # the halting head: is the answer right?
        nn.init.zeros_(self.q_head.weight)
        nn.init.constant_(self.q_head.bias, -5.0)  # at first it always says no
        self.register_buffer("H_init", torch.randn(WIDTH))  # where z_H begins, the same in every cell
        self.register_buffer("L_init", torch.randn(WIDTH))

    def forward(self, inputs: torch.Tensor, z_H: torch.Tensor, z_L: torch.Tensor):
        """One supervision step. inputs (B, T), state (B, T, D) -> z_H, z_L, logits (B, T, V), halting logit (B,)."""
        x = WIDTH**0.5 * self.embed[inputs]
        for _ in range(H_CYCLES):
            for _ in range(L_CYCLES):
                z_L = self.net(z_L + (z_H + x))
            z_H = self.net(z_H + z_L)
        return z_H, z_L, self.lm_head(z_H), self.q_head(z_H[:, 0]).squeeze(-1)


def loss_of(logits: torch.Tensor, q: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the cells, plus half that of the halting head, whose label is whether all cells are right."""
    right = (logits.argmax(-1) == labels).all(-1).float()
    return F.cross_entropy(logits.mT, labels) + 0.5 * F.binary_cross_entropy_with_logits(q, right)


# --- training and evaluation ---
def train(grids: torch.Tensor, seed: int = 0) -> TRM:
    """Train with deep supervision, one update after every supervision step; the model with averaged weights (EMA)."""
    torch.manual_seed(seed)
    model = TRM()
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.1)
    halted, steps = torch.ones(BATCH, dtype=torch.bool), torch.zeros(BATCH, dtype=torch.long)
    (inputs, labels), z_H, z_L = draw_batch(grids), model.H_init, model.L_init
    for update in range(1, UPDATES + 1):
        # Rows that have halted begin a new puzzle; the others go on with their state, which carries no gradient.
        new = draw_batch(grids)
        inputs, labels = (torch.where(halted[:, None], a, b) for a, b in zip(new, (inputs, labels)))
        z_H = torch.where(halted[:, None, None], model.H_init, z_H.detach())
        z_L = torch.where(halted[:, None, None], model.L_init, z_L.detach())
        steps = torch.where(halted, 0, steps) + 1
        z_H, z_L, logits, q = model(inputs, z_H, z_L)
        loss = loss_of(logits, q, labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = LR * min(update / WARM_UP, 1.0)
        optimizer.step()
        for mean, weight in zip(average.parameters(), model.parameters()):
            mean.data.lerp_(weight.data, 1 - EMA_DECAY)
        # A row halts when the head says "right", and after MAX_STEPS; exploration lets some rows go on for a while.
        least = torch.randint(2, MAX_STEPS + 1, (BATCH,)) * (torch.rand(BATCH) < EXPLORATION)
        halted = ((q > 0) & (steps >= least)) | (steps >= MAX_STEPS)
        if update % 100 == 0:
            print(f"update {update}: loss {loss.item():.3f}", flush=True)
    return average


@torch.no_grad()
def evaluate(model: TRM, grids: torch.Tensor) -> list[float]:
    """The share of puzzles with all cells right after each of EVAL_STEPS supervision steps."""
    inputs, labels = (grids + 1).unbind(1)
    z_H, z_L, solved = model.H_init, model.L_init, []
    for _ in range(EVAL_STEPS):
        z_H, z_L, logits, _ = model(inputs, z_H, z_L)
        solved.append((logits.argmax(-1) == labels).all(-1).float().mean().item())
    return solved


if __name__ == "__main__":
    torch.set_num_threads(1)
    shares = evaluate(train(read_pack("train")), read_pack("test"))
    print("unseen puzzles solved after each supervision step:", *(f"{share:.1%}" for share in shares))
