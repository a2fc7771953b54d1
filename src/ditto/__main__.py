"""``python -m ditto``."""

from ditto.cli.main import main

main()
