"""`python -m babelscale`."""

from babelscale.cli import main

main()
