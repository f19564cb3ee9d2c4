"""The real supervisor, with the workers of these tests."""

from __future__ import annotations

import sys
from pathlib import Path

from passerelle.serving import supervisor

if __name__ == "__main__":
    supervisor.main(command=(sys.executable, str(Path(__file__).with_name("arithmetic_worker.py"))))
