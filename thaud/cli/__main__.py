"""`python -m thaud.cli`: `thau` where the console script is not on the path."""

from thaud.cli import main

main()
