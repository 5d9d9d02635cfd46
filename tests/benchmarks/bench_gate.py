"""How often the gate is wrong, by simulation of evaluations whose truth is known.

    python tests/benchmarks/bench_gate.py --draws 1000

Prints the share of equal models that it blocks, beside the stated level, and the share of models
worse by half a point that it catches, beside the stated power: with the baseline alone, and with a
champion too. The tests hold the same rates against the same bounds.
"""

import argparse
import itertools
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

IMAGES, ACCURACY, SEED = 10_000, 0.975, 7


def main() -> None:
    """Draws every truth and prints one line for each."""
    from bnpipe.components.evaluator.params import Params

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000, help="evaluations per line")
    draws = parser.parse_args().draws
    params = Params()
    _say(
        f"{draws} evaluations of {IMAGES} images each; level {params.level:g}, "
        f"power {params.power:g}, {params.resamples} bootstrap resamples"
    )
    _say(f"{'references':24}{'discordance':>12}{'true loss':>12}{'blocked':>10}  asked for")
    for champion, discordance in itertools.product((False, True), (0.021, 0.03)):
        references = "baseline and champion" if champion else "baseline"
        for loss, asked in (
            (0.0, f"at most {params.level:.0%}"),
            (0.005, f"at least {params.power:.0%}"),
            (-0.003, "as little as can be"),
        ):
            rate = _blocked(params, draws, discordance, loss, champion)
            _say(f"{references:24}{discordance:12.1%}{100 * loss:9.1f} pp{rate:10.1%}  {asked}")


def _blocked(params: object, draws: int, discordance: float, loss: float, champion: bool) -> float:
    from bnpipe.components.evaluator.gate import decide
    from tests.components.evaluator.simulated import evaluations

    truth = {"accuracy": ACCURACY, "discordance": discordance, "loss": loss}
    found = evaluations(draws, IMAGES, champion=champion, seed=SEED, **truth)
    return sum(not decide(evidence, params).passed for evidence in found) / draws


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
