"""What it costs to look up an issued key, in microseconds of CPU: the right ones, the wrong ones, and garbage.

    build/benchmarks/turnpike/bin/python benchmarks/key_lookup.py [--rounds 7] [--keys 1000]

Each kind is repeated for about 20 ms a round; the least round is shown, which is the least disturbed one. The records lie in
a key file that is looked at once a second, as in a service.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from turnpike.boundary.issued_keys import IssuedKeyStore, issue
from turnpike.boundary.key_document import KeyDocument
from turnpike.boundary.key_file import KeyFile
from turnpike.secret import Secret

_ROUND_S = 0.02
_PEPPER = Secret("benchmark")


def least_us(part: Callable[[], object], rounds: int) -> float:
    """CPU microseconds of one ``part`` in the least round."""
    part()
    began = time.perf_counter()
    part()
    times = max(1, int(_ROUND_S / max(1e-7, time.perf_counter() - began)))
    return min(_round_us(part, times) for _ in range(rounds))


def _round_us(part: Callable[[], object], times: int) -> float:
    began = time.process_time()
    for _ in range(times):
        part()
    return (time.process_time() - began) / times * 1e6


def lookups(path: Path, keys: int, rounds: int) -> Iterator[tuple[str, float]]:
    """The kinds of keys that may arrive."""
    issued = [issue(tenant="acme", caller="web", scopes=["chat"], rate_limit=60, pepper=_PEPPER) for _ in range(keys)]
    path.write_bytes(KeyDocument({one.record.key_id: one.record for one in issued}).to_bytes())
    path.chmod(0o600)
    key_file = KeyFile(path, [_PEPPER])
    store = IssuedKeyStore(key_file, key_file.peppers)
    valid = issued[-1].key.reveal()
    unknown = issue(tenant="acme", pepper=_PEPPER).key.reveal()
    wrong_checksum = valid[:-1] + ("0" if valid[-1] != "0" else "1")
    assert store.find(valid) is not None, "a key of the file is found"
    kinds = {
        "valid key": valid,
        "wrong checksum": wrong_checksum,
        "right checksum, unknown id": unknown,
        "9 kB of garbage": "a" * 9000,
        "not ASCII": "tpk_live_\u00e9" + "0" * 48,
    }
    for label, key in kinds.items():
        yield label, least_us(lambda key=key: store.find(key), rounds)  # type: ignore[misc]
    yield f"reading a file of {keys} keys, once after each change", least_us(lambda: KeyFile(path).check(), rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--keys", type=int, default=1000)
    arguments = parser.parse_args()
    print("| key | us |")
    print("|---|--:|")
    with tempfile.TemporaryDirectory(prefix="turnpike-keys-") as folder:
        for label, us in lookups(Path(folder) / "keys.json", arguments.keys, arguments.rounds):
            print(f"| {label} | {us:.2f} |", flush=True)


if __name__ == "__main__":
    main()
