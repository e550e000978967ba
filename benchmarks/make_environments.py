"""Builds the virtual environments that `call_overhead.py` compares: one for each file in `environments/`.

They are apart because their pins conflict. Run it with the interpreter to be measured, best a release build of CPython
(profile-guided optimisation makes about a factor of 1.5).

    python benchmarks/make_environments.py build/benchmarks [NAME ...]
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "environments"


def commands(python: str, folder: Path, requirements: Path) -> list[list[str]]:
    """What to run to build one environment: with uv if it is on the path, else with venv and pip."""
    inside = str(folder / "bin" / "python")
    uv = shutil.which("uv")
    if uv is not None:
        install = [uv, "pip", "install", "--quiet", "--prerelease", "if-necessary-or-explicit", "--python", inside]
        create = [uv, "venv", "--quiet", "--allow-existing", "--python", python, str(folder)]
        return [create, [*install, "-r", str(requirements)]]
    return [[python, "-m", "venv", str(folder)], [inside, "-m", "pip", "install", "--quiet", "-r", str(requirements)]]


def main() -> None:
    known = sorted(path.stem for path in REQUIREMENTS.glob("*.txt"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the environments go")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones; by default all: {', '.join(known)}")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the environments; by default this one")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(known)
    if unknown:
        parser.error(f"there is no environment {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    for name in arguments.names or known:
        target = arguments.folder.resolve() / name
        target.parent.mkdir(parents=True, exist_ok=True)
        for command in commands(arguments.python, target, REQUIREMENTS / f"{name}.txt"):
            # Relative paths in a requirements file, such as the checkout itself, start where the installer runs.
            subprocess.run(command, check=True, cwd=HERE.parent)
        print(f"{name}: {target}")


if __name__ == "__main__":
    main()
