"""Tools for maintainers, run from the repository's root: python -m tools.NAME."""
