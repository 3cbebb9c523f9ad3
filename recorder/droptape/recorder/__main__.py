"""``python -m droptape.recorder``."""

from .cli import main

main()
