"""`up` in a process of its own, with the parts of these tests: python upping.py FOLDER [loop]"""

from __future__ import annotations

import sys
from pathlib import Path

from passerelle.errors import PasserelleError
from passerelle.loop.up import Child, run


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    folder = Path(sys.argv[1])

    def child(name: str, port: int | None) -> Child:
        return Child(name, "part", ["--root", str(folder), "--name", name], port=port)

    looper = child("loop", None) if "loop" in sys.argv[2:] else None
    try:
        run(
            child("endpoint", 0),
            looper,
            child("dashboard", 0),
            can_answer=(folder / "revision").exists,
            say=say,
        )
    except PasserelleError as error:
        say(f"passerelle: {error}")
        sys.exit(error.exit_code)
