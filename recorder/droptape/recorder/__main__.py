"""``python -m droptape.recorder``."""

from .start import main

main()
