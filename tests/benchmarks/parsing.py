"""How fast a parser of the size of params/05_ewt.yaml trains and parses, against the matrix products alone.

    python tests/benchmarks/parsing.py [--treebank FOLDER] [--rounds 3]

Without a folder of CoNLL-U the sentences are the grammar's. Training: sentences and words a second, and the share of the time
that the parser's products would take at the rate of one large product. Parsing: sentences and words a second in batches of 64,
and the time of scoring, trees and labels over that of the encoder. Memory: what the backward pass of 32 sentences keeps, with
deep supervision of three iterations, with and without activation checkpointing.
"""

import argparse
import time

import torch

from trm.flops import saved_for_backward
from trm.params import read_yaml
from trm.parsing.batches import batch_on
from trm.parsing.evaluate import speed
from trm.parsing.params import Parsing
from trm.parsing.train import Data, load_data, make_parser, training_batches, training_flops
from trm.run import ROOT


def product_rate() -> float:
    """FLOP/s of a product of the size that a batch of 3,000 words needs."""
    left, right = torch.randn(3000, 768), torch.randn(768, 512)
    best = float("inf")
    for _ in range(20):
        started = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - started)
    return 2 * left.numel() * right.shape[1] / best


def activations(params: Parsing, data: Data, checkpointing: bool) -> int:
    """Bytes that the forward pass of the 32 longest training sentences keeps for the backward pass, parameters left out."""
    changes = {"max_inner_iters": 3, "deep_supervision": True, "activation_checkpointing": checkpointing}
    model = make_parser(params.of_arm("standard").model_copy(update=changes), data)
    longest = sorted(data.encoded["train"], key=lambda arrays: -len(arrays["words"]))[:32]
    batch = batch_on(model.device, longest)
    with saved_for_backward(model) as saved:
        model.loss(batch)
    return saved()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--treebank", default="")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    recipe = read_yaml(ROOT / "params" / "05_ewt.yaml") | {"conllu_dir": options.treebank}
    params = Parsing.create(recipe)
    data = load_data(params)
    model, batches = make_parser(params, data), training_batches(params, data)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    steps = min(batches.per_epoch, 20)
    given = [{name: torch.from_numpy(value) for name, value in batches(i).items()} for i in range(steps)]
    words = sum(int((batch["words"] > 0).sum()) for batch in given)
    best = float("inf")
    for _ in range(options.rounds):
        started = time.perf_counter()
        for batch in given:
            model.loss(batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        best = min(best, time.perf_counter() - started)
    sentences, rate = sum(len(batch["words"]) for batch in given), product_rate()
    share = words * training_flops(params, data) / rate / best
    print(f"training: {sentences / best:.0f} sentences, {words / best:.0f} words a second")
    print(f"its products at {rate / 1e9:.0f} GFLOP/s take {share:.2f} of that time")
    plain, checkpointed = (activations(params, data, checkpointing) / 2**20 for checkpointing in (False, True))
    print(
        f"kept for the backward pass of 32 sentences: {plain:.0f} MiB, with activation checkpointing {checkpointed:.0f} MiB"
    )
    found = speed(model.eval(), data.encoded["test"], 64, options.rounds)
    length = sum(len(arrays["words"]) for arrays in data.encoded["test"]) / len(data.encoded["test"])
    rate = found["parse/sentences_per_second"]
    print(f"parsing: {rate:.0f} sentences, {rate * length:.0f} words a second in batches of 64")
    print(f"scoring and decoding take {found['parse/decoding_over_encoder']:.2f} of the encoder's time")


if __name__ == "__main__":
    main()
