"""Types are ready before threads use them; the crash that this prevents would end the process, so a child tries it."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys, threading
import msgspec
from turnpike.struct_types import prepared

sys.setswitchinterval(1e-6)
for _ in range(60):

    class Inner(msgspec.Struct):
        count: int = 0

    @prepared
    class Outer(msgspec.Struct):
        inner: Inner | None = None

    together = threading.Barrier(6)

    def first() -> None:
        together.wait()
        assert msgspec.convert({"inner": {"count": 3}}, Outer).inner.count == 3

    threads = [threading.Thread(target=first) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_many_threads_may_be_the_first_to_use_a_prepared_type() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
