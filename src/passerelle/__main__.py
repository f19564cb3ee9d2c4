"""``python -m passerelle``: the same as the command ``passerelle``."""

from passerelle.cli import main

if __name__ == "__main__":
    main()
