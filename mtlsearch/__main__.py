"""`python -m mtlsearch` is `mtlsearch`."""

from mtlsearch.cli import main

main()
