"""kustomize builds of the base with the sets of components that the chart learns from."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from manifests.chart_names import named
from manifests.chart_tree import ABSENT, Components, World, canonical, merge, resolve
from manifests.render import COMPONENTS, MANIFESTS, Object, folders
from manifests.tools import KUBECTL, REPOSITORY, run

Key = tuple[str, str, str]
"""Kind, namespace (empty for none) and name of an object."""


FAR_REACHING = {
    "commonAnnotations",
    "commonLabels",
    "labels",
    "namePrefix",
    "nameSuffix",
    "namespace",
}
"""What a kustomization does to all objects it has got so far, those of other components too."""


@dataclass(frozen=True)
class Component:
    """A component, as a switch of the chart.

    Args:
        name: its folder.
        description: what it adds, in a sentence.
        requires: names of components that it builds upon.
        excludes: name of a component that it cannot be together with → why.
    """

    name: str
    description: str
    requires: frozenset[str] = frozenset()
    excludes: Mapping[str, str] = field(default_factory=dict)


class Builds:
    """Builds, each made once.

    Args:
        table: all components, in the order in which kustomizations list them.

    Raises:
        ValueError: the table and the folders of the components differ, or a component reaches too far.
    """

    def __init__(self, table: Sequence[Component]) -> None:
        names = {component.name for component in table}
        there = {folder.name for folder in folders(COMPONENTS)}
        if names != there:
            raise ValueError(f"chart_components.TABLE and {COMPONENTS}: {sorted(names ^ there)}")
        for folder in folders(COMPONENTS):
            kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
            for reaching in sorted(FAR_REACHING & kustomization.keys()):
                raise ValueError(
                    f"component {folder.name}: `{reaching}` changes the objects of whatever components "
                    "come before it: say it in the component's own objects"
                )
        self.table = table
        self.components = Components(
            [component.name for component in table],
            {component.name: component.requires for component in table},
        )
        self.known: dict[World, list[Object]] = {}
        self.keyed: dict[World, dict[Key, Object]] = {}

    def of(self, names: Iterable[str]) -> list[Object]:
        """The objects of the base with components, as kustomize builds them."""
        world = World(names)
        self.make([world])
        return self.known[world]

    def make(self, worlds: Iterable[World]) -> None:
        """Build what is not known yet, some at a time."""
        missing = [world for world in dict.fromkeys(worlds) if world not in self.known]
        with ThreadPoolExecutor(4) as pool:
            for world, built in zip(missing, pool.map(self._build, missing), strict=True):
                self.known[world] = built
                self.keyed[world] = {key(each): each for each in named(built)}

    def _build(self, world: World) -> list[Object]:
        build = REPOSITORY / "build"
        build.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="chart-", dir=build) as name:
            # kustomize takes no absolute paths.
            up = Path("../..") / MANIFESTS.relative_to(REPOSITORY)
            kustomization = {
                "resources": [str(up / "base")],
                "components": [
                    str(up / "components" / each) for each in self.components.order if each in world
                ],
            }
            (Path(name) / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
            text = run(KUBECTL, "kustomize", name)
        return [each for each in yaml.load_all(text, yaml.CSafeLoader) if each]

    def compatible(self, world: World) -> bool:
        """Whether no two of the components exclude each other."""
        return not any(
            component.name in world and world & set(component.excludes) for component in self.table
        )

    def widest(self) -> list[World]:
        """Sets with as many components as go together, so that each component is in one."""
        sets: list[World] = []
        for first in self.components.order:
            if any(first in world for world in sets):
                continue
            world = self.components.closure([first])
            for name in self.components.order:
                wider = world | self.components.closure([name])
                world = wider if self.compatible(wider) else world
            sets.append(world)
        return sets

    def sample(self) -> dict[World, dict[Key, Object]]:
        """Builds that tell what components do, alone and with those they meet; names without digests.

        Where one of the widest sets of components makes of an object what smaller ones do not let expect,
        the smallest set that does so is another sample.
        """
        worlds = dict.fromkeys(
            [World(), *(self.components.closure([name]) for name in self.components.order)]
        )
        self.make([*worlds, *self.widest()])
        for widest in self.widest():
            keys = {key for world in [*worlds, widest] for key in self.keyed[world]}
            for each in sorted(keys):
                while self._surprises(each, widest, worlds):
                    worlds[self._narrowed(each, widest, worlds)] = None
        return {
            world: self.keyed[world]
            for world in sorted(worlds, key=lambda each: (len(each), self.components.rank(each)))
        }

    def _surprises(self, each: Key, world: World, worlds: Iterable[World]) -> bool:
        """Whether an object of a build is not what others let expect."""
        self.make([world])
        samples = {known: self.keyed[known].get(each, ABSENT) for known in worlds}
        expected = resolve(merge(samples, self.components), world)
        return canonical(expected) != canonical(self.keyed[world].get(each, ABSENT))

    def _narrowed(self, each: Key, world: World, worlds: Iterable[World]) -> World:
        """A set of components of which none can be spared for the surprise."""
        names, size = self.components.ordered(world), len(world) // 2
        while size:
            for start in range(0, len(names), size):
                fewer = self.components.closure([*names[:start], *names[start + size :]])
                if len(fewer) < len(names) and self._surprises(each, fewer, worlds):
                    names = self.components.ordered(fewer)
                    break
            else:
                size //= 2
        return World(names)


def key(each: Object) -> Key:
    """What tells an object from others."""
    metadata = each["metadata"]
    return each["kind"], metadata.get("namespace", ""), metadata["name"]
