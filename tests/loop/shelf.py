"""A registry of versions whose bundles hold nothing: for what decides on versions and never loads one."""

from __future__ import annotations

import numpy as np
from living import FIRST

from passerelle.bundle.keys import public_hex, throwaway_key, trust
from passerelle.bundle.manifest import PROFILE, Environment, Manifest, Provenance
from passerelle.bundle.profile import encode_profile, profile
from passerelle.bundle.seal import close, draft_folder
from passerelle.project.settings import Project
from passerelle.registry.versions import Version
from passerelle.schema import Schema

KEY = throwaway_key()


class Shelf:
    """Versions 1 to 3, and aliases that are remembered."""

    def __init__(self, project: Project) -> None:
        trust(project.state, public_hex(KEY))
        self.folder = project.state / "bundles"
        self.aliases: dict[str, int] = {}

    def get(self, which: int) -> Version:
        manifest = Manifest(
            project="orders",
            task="binary",
            target=f"late-{which}",
            classes=(False, True),
            schema=Schema(columns=()),
            provenance=Provenance(created_at=FIRST),
            environment=Environment(python="python", python_version="3.11", platform="", packages={}),
            files={},
        )
        nothing = manifest.schema
        seen = encode_profile(profile(nothing.validate([{}] * 9), np.full((9, 1), 0.3), nothing))
        with draft_folder(self.folder) as draft:
            (draft / PROFILE).write_bytes(seen)
            bundle = close(draft, manifest, into=self.folder, key=KEY)
        return Version(
            number=which,
            digest=bundle.digest,
            path=bundle.path,
            created_at=FIRST,
            metrics={"brier": 0.1},
            aliases=(),
            run="",
            tags={},
        )

    def versions(self) -> list[Version]:
        return [self.get(number) for number in (1, 2, 3)]

    def set_alias(self, alias: str, number: int) -> None:
        self.aliases[alias] = number

    def drop_alias(self, alias: str) -> None:
        self.aliases.pop(alias, None)
