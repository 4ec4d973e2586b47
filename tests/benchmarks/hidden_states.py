"""Memory of the streaming path of chapter 01: from a language model, batch by batch, to the sums of its states.

    python tests/benchmarks/hidden_states.py                    # the model that ships, 100,000 and 1,000,000 tokens
    python tests/benchmarks/hidden_states.py --wide             # random weights, SmolLM3-3B's width of 2048, 4 layers, bfloat16

Each size is a process of its own; printed are its peak memory, and the ratio of the peaks.
"""

import argparse
import resource
import subprocess
import sys
import time

import numpy as np
import torch
from transformers import SmolLM3Config, SmolLM3ForCausalLM

from trm.compressor.states import StateBatches
from trm.compressor.train import one_pass
from trm.language.lm import StateReader, load_lm


def wide_lm():
    """Four layers as wide as SmolLM3-3B's, random weights, bfloat16; a small vocabulary, since words are not the point."""
    torch.set_default_dtype(torch.bfloat16)
    config = SmolLM3Config(
        vocab_size=1024, hidden_size=2048, intermediate_size=11008, num_hidden_layers=4, num_attention_heads=16,
        num_key_value_heads=4, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    lm = SmolLM3ForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    return lm


def measure(tokens: int, wide: bool, length: int) -> None:
    """Stream `tokens` tokens through the model and print memory and time."""
    lm = wide_lm() if wide else load_lm()[0]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reader, draw = StateReader(lm), np.random.default_rng(0)
    sequences = [draw.integers(3, 500, length, dtype=np.int32) for _ in range(tokens // length)]
    started = time.perf_counter()
    found = one_pass(StateBatches(sequences, reader.states, 8 if wide else 32, 0).in_order(), reader)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    states = found.moment.count * reader.hidden_size * 4 / 1e6
    print(f"{found.moment.count} {peak / 1e3:.0f} {before / 1e3:.0f} {states:.0f} {seconds:.0f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--wide", action="store_true")
    parser.add_argument("--tokens", type=int, nargs="*")
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return measure(options.one, options.wide, options.length)
    peaks = []
    for tokens in options.tokens or ([1_024, 4_096] if options.wide else [100_000, 1_000_000]):
        command = [sys.executable, __file__, "--one", str(tokens), "--length", str(options.length)]
        out = subprocess.run(command + ["--wide"] * options.wide, check=True, capture_output=True, text=True).stdout
        count, peak, before, states, seconds = out.splitlines()[-1].split()
        peaks.append(float(peak))
        print(f"{int(count):>9,} tokens: peak {peak} MB ({before} MB before the first state); all states would be "
              f"{states} MB; {seconds} s")  # fmt: skip
    print(f"peak of the last over the first: {peaks[-1] / peaks[0]:.3f}")


if __name__ == "__main__":
    main()
