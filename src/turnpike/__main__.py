"""``python -m turnpike``."""

from turnpike.cli import main

main()
