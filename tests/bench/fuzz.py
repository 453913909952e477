"""
The long fuzz run: mutated heads against h11 and llhttp.

    python -m tests.bench.fuzz --heads 1000000 [--seed N]
"""

from __future__ import annotations

import argparse
import random
import sys

from tests.http.oracles import disagreement, mutate, ours


def main() -> int:
    """Run; the exit status is 1 when a head breaks the rule."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heads", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    rng = random.Random(options.seed)
    passed, wrong = 0, 0
    for _ in range(options.heads):
        head = mutate(rng)
        passed += ours(head) is not None
        said = disagreement(head)
        if said is not None:
            wrong += 1
            print(said)
    print(f"seed {options.seed}: {options.heads} heads, {passed} let through, {wrong} against the rule")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
