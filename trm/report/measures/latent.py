"""Chapter 07's table: latents in the place of a written chain."""

from pathlib import Path

from trm.latent.findings import BASELINES, CHAIN, NONE, THOUGHTS, gap_recovered
from trm.report.verdicts import CONTRADICTED, IN_PART, SUPPORTED, Measured, arm, compare, measure, read_table


@measure("stands_in_for_a_chain")
def stands_in_for_a_chain(tables: Path) -> Measured:
    """Right answers after latent thoughts against every way that needs none, which share the risk. IN_PART where some of them
    do as well; CONTRADICTED where none does worse."""
    ways = (THOUGHTS, CHAIN, *BASELINES)
    table = read_table(tables, "07_latent_reasoning.csv", key="way", arms=ways, columns=("accuracy",))
    table = table.drop_duplicates(["way", "seed"])  # several runs of a seed judge the ways without latents
    own = arm(table, THOUGHTS, "accuracy", "way")
    told = {
        way: compare(own, arm(table, way, "accuracy", "way"), ("latents", way.replace("_", " ")), tests=len(BASELINES))
        for way in BASELINES
    }
    beaten = [way for way in BASELINES if told[way].verdict == SUPPORTED]
    verdict = SUPPORTED if len(beaten) == len(BASELINES) else IN_PART if beaten else CONTRADICTED
    share = gap_recovered(table).mean()
    rest = [told[way].text for way in BASELINES if way not in beaten]
    text = (
        f"right answers after latents, {told[NONE].text}; {share:.0%} of the way to the written chain; better than "
        f"{len(beaten)} of {len(BASELINES)} baselines" + (f"; not so: {'; '.join(rest)}" if rest else "")
    )
    return Measured(verdict, text, "a frozen language model on arithmetic stories", told[NONE].seeds)
