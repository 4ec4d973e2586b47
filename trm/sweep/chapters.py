"""The chapters by name: what a sweep, the command line and the tests know of them without importing any."""

import difflib
from importlib import import_module

from trm.errors import UserError
from trm.params import Params

# Chapter -> module and class of its parameters.
CHAPTERS = {
    "00_watch_it_think": "trm.puzzles.params:WatchIt",
    "01_compressor": "trm.compressor.params:Compression",
    "02_deep_supervision": "trm.puzzles.params:DeepSupervision",
    "03_act_halting": "trm.puzzles.params:Halting",
    "04_trm_train": "trm.puzzles.params:TrmTrain",
    "05_poh_ablation": "trm.parsing.params:Parsing",
    "06_recursive_lm": "trm.recursive_lm.params:RecursiveLM",
    "07_latent_reasoning": "trm.latent.params:LatentReasoning",
    "08_grpo": "trm.grpo.params:Grpo",
    "09_tpu_scaling": "trm.tpu.params:TpuScaling",
    "10_scaling_laws": "trm.scaling.params:ScalingLaws",
    "11_report": "trm.report.params:Report",
    "12_any_puzzle": "trm.puzzles.own_tasks:OwnTasks",
}


def schema_of(chapter: str) -> type[Params]:
    """The parameters of a chapter, by its name or its number."""
    found = [name for name in CHAPTERS if chapter in (name, name[:2], name[:2].lstrip("0"))]
    if not found:
        near = difflib.get_close_matches(chapter, CHAPTERS, n=1)
        raise UserError(f"no chapter {chapter!r}; there are {', '.join(near or CHAPTERS)}")
    module, name = CHAPTERS[found[0]].split(":")
    return getattr(import_module(module), name)
