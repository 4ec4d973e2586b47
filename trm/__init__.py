"""Tiny recursive models: the package behind the book."""

import os

# accelerate would take torch_xla wherever it is installed; here trm.tpu.xla alone does.
os.environ.setdefault("USE_TORCH_XLA", "0")
# What an Apple GPU lacks is computed by the processor; torch reads this when it is loaded.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
