"""The verb image: a version's environment as a container."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from passerelle.cli.group import AS_JSON, main, show, working


@main.command()
@click.argument("version", required=False)
@click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the build context; else image/ in the project.",
)
@click.option("--base", help="Image with Python that it is built on, best by digest; else Python's own.")
@click.option("--target", metavar="TARGET", help="The target that it is for; else all of passerelle.toml's.")
@click.option("--architecture", type=click.Choice(["amd64", "arm64"]), help="Of the machines; else the target's.")
@click.option("--no-training", is_flag=True, help="Leave out what only training needs.")
@click.option("--build", "built", is_flag=True, help="Build it with buildah, podman or docker.")
@click.option("--push", "pushed", is_flag=True, help="Build it and push it to the registry of the target's image.")
@AS_JSON
@click.pass_context
def image(
    context: click.Context,
    version: str | None,
    *,
    out: Path | None,
    target: str | None,
    base: str | None,
    architecture: Any,
    no_training: bool,
    built: bool,
    pushed: bool,
    as_json: bool,
) -> None:
    """Write the container that serves and trains, as a build context.

    It installs what VERSION (else the champion) was made with. No model, no data and no secret is in it: they travel
    with each deployment.
    """
    from passerelle.bundle.manifest import read_manifest
    from passerelle.deployment.image import ROOT, SERVING, TRAINING, build, push, tag_in_registry, write_context
    from passerelle.loop.train import registry_of

    project = working(context, "looks")
    which = int(version) if version is not None and version.isdigit() else version or "champion"
    manifest, _ = read_manifest(registry_of(project).get(which).path)
    extras = SERVING if no_training else TRAINING
    into = out or project.root / "image"
    tag = tag_in_registry(project, target) if pushed else None
    made = write_context(
        project, manifest.environment, into, target=target, base=base, architecture=architecture, extras=extras
    )
    name = build(made, tag) if built or pushed else None
    digest = push(name) if name and pushed else None
    user = "root" if made.recipe.user == ROOT else made.recipe.user
    wheels = f"{made.wheels} wheels, {made.size_bytes / 1e6:.0f} MB"
    lines = [f"{into}: {wheels}, on {made.recipe.base}; {made.recipe.architecture}, runs as {user}."]
    if digest:
        next_step = f'Pushed. In passerelle.toml: image = "{digest}"'
    else:
        next_step = (
            f"Built as {name}: push it, then name its digest in passerelle.toml." if name else "Build and push it."
        )
    show({"context": made, "image": digest or name}, as_json=as_json, text=[*lines, next_step])
