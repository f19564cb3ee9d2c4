"""A cloud of memory, for what decides when a revision is brought to a target."""

from __future__ import annotations

from passerelle.project.settings import Project
from passerelle.project.targets import SageMaker
from passerelle.testing.targets import MemoryPlace, MemoryTarget

SEA = SageMaker(
    image=f"127.0.0.1:9/image@sha256:{'a' * 64}",
    store="s3://bucket/orders",
    instance="ml.m5.large",
    region="eu-west-3",
    role="arn:aws:iam::123456789012:role/serving",
)
PLACES: dict[str, MemoryPlace] = {}


class Sea(MemoryTarget):
    """A SageMaker of memory."""

    def __init__(self, name: str, _settings: SageMaker, project: Project, *, pack: object) -> None:
        assert callable(pack)
        super().__init__(PLACES[name], project=project.name)
