"""Look at every page: python tests/dashboard/look.py OUT [--root PROJECT]. Without a project, one that is made up."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal

import lived
import tried
from shown import PAGES, browsing, drawn, showing

from passerelle.project.settings import FILE, Project, load_project
from passerelle.state.database import open_state
from passerelle.state.timeline import events

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
WIDTHS = {1280: 800, 390: 844}


def look(
    project: Project, out: Path, *, now: datetime, whole: bool = True, pages: Mapping[str, str] = PAGES
) -> list[Path]:
    """A picture of each page, in both schemes and widths."""
    out.mkdir(parents=True, exist_ok=True)
    made = []
    with showing(project, now=now) as url, browsing() as browser:
        for scheme in SCHEMES:
            for width, height in WIDTHS.items():
                context = browser.new_context(
                    color_scheme=scheme, viewport={"width": width, "height": height}, device_scale_factor=1
                )
                page = context.new_page()
                for name, path in pages.items():
                    page.goto(f"{url}{path}")
                    drawn(page)
                    made.append(out / f"{name}-{width}-{scheme}.png")
                    page.screenshot(path=made[-1], full_page=whole)
                context.close()
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--root", type=Path, help="A project that has lived; it is looked at as of its last event.")
    parser.add_argument("--fold", action="store_true", help="Only what stands on the first screen.")
    given = parser.parse_args()
    if given.root is None:
        with tempfile.TemporaryDirectory() as folder:
            look(lived.live(Path(folder) / "lived"), given.out, now=lived.NOW, whole=not given.fold)
            first = tried.begun(Path(folder) / "first")
            for standing in tried.STANDINGS:
                project = tried.tried(Path(folder) / standing, standing, first=first)
                name = f"trial-{standing.lower().replace('_', '-')}"
                look(project, given.out, now=tried.NOW, whole=not given.fold, pages={name: "/trial"})
        return
    project = load_project(given.root / FILE)
    happened = events(open_state(project.state), limit=1)
    look(project, given.out, now=happened[-1].at, whole=not given.fold)


if __name__ == "__main__":
    main()
