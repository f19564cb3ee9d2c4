"""The command line: thin verbs."""

from __future__ import annotations

import click


@click.group()
def main() -> None:
    """From a notebook to served, recorded predictions."""
