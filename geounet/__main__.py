"""`python -m geounet`."""

from geounet.cli.app import main

main()
