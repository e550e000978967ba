"""What importing costs: time and number of modules in fresh interpreters, the best of N.

    build/benchmarks/turnpike/bin/python benchmarks/import_time.py [--rounds 7]

The statements take turns, so that a machine whose speed drifts favours none; the best time is the least disturbed one.
The first round fills the byte-code cache and the file cache, and does not count.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

_BARE = "pass"
_GATEWAY = "from turnpike import Gateway"
STATEMENTS = (_BARE, "import turnpike", _GATEWAY, "import openai", "import anthropic")

_PROGRAM = """
import sys, time
wall, cpu = time.perf_counter(), time.process_time()
{statement}
print(time.perf_counter() - wall, time.process_time() - cpu, len(sys.modules))
"""


def measure(statement: str) -> tuple[float, float, int] | None:
    """Wall seconds, CPU seconds and modules of one fresh interpreter; ``None`` if the import fails there."""
    command = [sys.executable, "-c", _PROGRAM.format(statement=statement)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        return None
    wall, cpu, modules = ended.stdout.split()
    return float(wall), float(cpu), int(modules)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    best: dict[str, tuple[float, float, int]] = {}
    for number in range(rounds + 1):
        for statement in STATEMENTS:
            found = measure(statement)
            if found is not None and number:
                known = best.get(statement, found)
                best[statement] = (min(known[0], found[0]), min(known[1], found[1]), found[2])
    print("| statement | wall ms | CPU ms | modules | to Gateway |")
    print("|---|--:|--:|--:|--:|")
    own = best.get(_GATEWAY)
    for statement in STATEMENTS:
        if statement not in best:
            print(f"| `{statement}` | not installed here | | | |")
            continue
        wall, cpu, modules = best[statement]
        ratio = f"{cpu / own[1]:.1f}x" if own and statement != _BARE else ""
        label = "bare interpreter" if statement == _BARE else f"`{statement}`"
        print(f"| {label} | {wall * 1e3:.1f} | {cpu * 1e3:.1f} | {modules} | {ratio} |")


if __name__ == "__main__":
    main()
