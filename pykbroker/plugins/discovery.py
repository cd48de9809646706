"""Where plugins come from, in the order of their loading.

1. pykbroker's own, by the names in :data:`FIRST_PARTY`.  They are ordinary plugins that import only
   public names; that they need no search keeps a start fast.  In a checkout that is not installed they
   are found in ``plugins/``.
2. Installed distributions with an entry point in the group ``pykbroker``, sorted by its name.  Only
   metadata that mentions the group is parsed: ``importlib.metadata`` would read all of it.
3. Files and packages in ``--plugins-dir``, sorted by name, without those that begin with ``_`` or ``.``.
4. What ``--plugin`` names, in order: modules, files, package folders.

Of two plugins with one name the first stays.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import PathDistribution

GROUP = "pykbroker"
FIRST_PARTY = {
    "partitioners": "pykbroker_partitioners",
    "exchanges": "pykbroker_exchanges",
    "validators": "pykbroker_validators",
    "interceptors": "pykbroker_interceptors",
    "policies": "pykbroker_policies",
    "events": "pykbroker_events",
    "retries": "pykbroker_retries",
    "alerts": "pykbroker_alerts:Alerts",
}
"""pykbroker's own plugins, as their entry points say it: ``module`` or ``module:Class``."""
UNBLOCKABLE = ("partitioners", "exchanges", "retries")
"""Plugins without which topics could not be what they are, or what failed would not come back in time."""

OURS = "pykbroker"
"""The origin of pykbroker's own."""

_CHECKOUT = Path(__file__).parents[2] / "plugins"


@dataclass(frozen=True, slots=True)
class Found:
    """A plugin that was found and not yet imported."""

    name: str
    origin: str
    version: str
    load: Callable[[], object]


def first_party() -> Iterator[Found]:
    """pykbroker's own plugins."""
    from pykbroker._version import __version__

    for name, target in FIRST_PARTY.items():
        if _make_importable(target.partition(":")[0]):
            yield Found(name, OURS, __version__, partial(_import, target))


def _import(target: str) -> object:
    """What ``module`` or ``module:attribute`` names."""
    module, _, attribute = target.partition(":")
    found: object = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found


def _make_importable(module: str) -> bool:
    if module in sys.modules or importlib.util.find_spec(module) is not None:
        return True
    folder = _CHECKOUT / module
    if not (folder / module / "__init__.py").exists():
        return False
    sys.path.append(str(folder))
    importlib.invalidate_caches()
    return True


def installed() -> Iterator[Found]:
    """Plugins of installed distributions."""
    points = [point for distribution in _distributions() for point in _entry_points(distribution)]
    yield from sorted(points, key=lambda found: (found.name, found.origin))


def _distributions() -> Iterator[PathDistribution]:
    """Distributions whose entry points mention our group; the first on the path counts."""
    found = list(_metadata_folders())
    if found:
        from importlib.metadata import PathDistribution  # costs more than the search

        yield from (PathDistribution(home) for home in found)


def _metadata_folders() -> Iterator[Path]:
    seen: set[str] = set()
    for folder in sys.path:
        try:
            names = sorted(os.listdir(folder or "."))
        except OSError:
            continue  # archives, folders that are not there
        for name in names:
            if name.endswith((".dist-info", ".egg-info")):
                home = Path(folder or ".", name)
                distribution = name.partition("-")[0].lower()
                if distribution not in seen and _mentions_us(home / "entry_points.txt"):
                    seen.add(distribution)
                    yield home


def _mentions_us(file: Path) -> bool:
    try:
        return f"[{GROUP}]".encode() in file.read_bytes()
    except OSError:
        return False


def _entry_points(distribution: PathDistribution) -> Iterator[Found]:
    version = distribution.version
    for point in distribution.entry_points:
        if point.group == GROUP and point.value not in FIRST_PARTY.values():
            yield Found(point.name, f"{distribution.name} {version}", version, point.load)


def in_directory(directory: Path) -> Iterator[Found]:
    """Plugins in the files and packages of ``directory``.  Raises LookupError if there is none."""
    if not directory.is_dir():
        raise LookupError(f"there is no directory {directory}")
    for path in sorted(directory.iterdir()):
        if not path.name.startswith(("_", ".")) and (path.suffix == ".py" or (path / "__init__.py").exists()):
            yield _file(path)


def named(what: object) -> Found:
    """The plugin that ``--plugin`` names, or that is given as an object.

    Raises LookupError when there is no such file or module.
    """
    if not isinstance(what, str | Path):
        name = getattr(what, "__name__", None) or type(what).__name__
        return Found(str(name), "given as an object", _version_of(what), lambda: what)
    text = str(what)
    module = text.partition(":")[0]
    path = Path(text)
    if path.suffix == ".py" or os.sep in text:
        if path.is_file() or (path / "__init__.py").is_file():
            return _file(path)
        raise LookupError(f"there is no plugin file {text}")
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None  # a parent package that is missing, or fails: importing it says why
    if spec is None and Path(f"{text}.py").is_file():
        return _file(Path(f"{text}.py"))
    if spec is None and module not in sys.modules and "." not in module:
        raise LookupError(f"there is no module {module}, and no file {module}.py here")
    return Found(text, f"module {text}", "", partial(_import, text))


def _file(path: Path) -> Found:
    path = path.absolute()
    return Found(path.stem, str(path), "", partial(_import_file, path))


def _import_file(path: Path) -> ModuleType:
    """Import a file or package from where it is, under a name that cannot hide another module."""
    name = f"pykbroker_plugin_file_{path.stem.replace('-', '_')}"
    package = path / "__init__.py" if path.is_dir() else None
    spec = importlib.util.spec_from_file_location(
        name, package or path, submodule_search_locations=[str(path)] if package else None
    )
    assert spec is not None  # the suffix is .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _version_of(plugin: object) -> str:
    return str(getattr(plugin, "__version__", ""))
