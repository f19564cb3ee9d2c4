"""The verb image: a version's environment as a container."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from passerelle.cli.group import AS_JSON, main, project_of, show


@main.command()
@click.argument("version", required=False)
@click.option(
    "-o", "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the build context."
)
@click.option("--base", help="Image with Python that it is built on, best by digest; else Python's own.")
@click.option(
    "--architecture", type=click.Choice(["amd64", "arm64"]), default="amd64", show_default=True, help="Of the machines."
)
@click.option("--no-training", is_flag=True, help="Leave out what only training needs.")
@click.option("--build", "built", is_flag=True, help="Build it with buildah, podman or docker.")
@AS_JSON
@click.pass_context
def image(
    context: click.Context,
    version: str | None,
    out: Path,
    base: str | None,
    architecture: Any,
    *,
    no_training: bool,
    built: bool,
    as_json: bool,
) -> None:
    """Write the container that serves and trains, as a build context.

    It installs what VERSION (else the champion) was made with. No model, no data and no secret is in it: they travel
    with each deployment.
    """
    from passerelle.bundle.manifest import read_manifest
    from passerelle.deployment.image import SERVING, TRAINING, build, write_context
    from passerelle.loop.train import registry_of

    project = project_of(context)
    which = int(version) if version is not None and version.isdigit() else version or "champion"
    manifest, _ = read_manifest(registry_of(project).get(which).path)
    extras = SERVING if no_training else TRAINING
    made = write_context(project, manifest.environment, out, base=base, architecture=architecture, extras=extras)
    name = build(made) if built else None
    lines = [f"{out}: {made.wheels} wheels, {made.size_bytes / 1e6:.0f} MB, on {made.recipe.base}."]
    next_step = f"Built as {name}: push it, then name its digest in passerelle.toml." if name else "Build and push it."
    show({"context": made, "image": name}, as_json=as_json, text=[*lines, next_step])
