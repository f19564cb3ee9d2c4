"""Remove what earlier live runs left, whatever ended them: python tests/live/clear.py SETTINGS."""

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


def main(settings: Path) -> None:
    """Clear, and say whose."""
    sys.path[:0] = [str(HERE), str(HERE.parent / "loop")]
    from account import leftovers, read_account

    with tempfile.TemporaryDirectory() as scratch:
        for name in leftovers(read_account(settings), Path(scratch)):
            sys.stdout.write(f"removed {name}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
