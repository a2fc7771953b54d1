"""``python -m ditto``."""

from ditto.cli.entry import main

main()
