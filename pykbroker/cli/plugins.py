"""``pykbroker plugins``: what plugins there are and what they offer; a package to begin one with."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from pykbroker.cli._client import format_option
from pykbroker.cli._errors import Failed

if TYPE_CHECKING:
    from pykbroker.components import PluginSetting
    from pykbroker.plugins import PluginInfo, Plugins

KINDS = ("partitioner", "exchange", "validator", "retry-policy")
"""What ``plugins new`` can begin."""

Command = TypeVar("Command", bound=Callable[..., None])


def _list_options(command: Command) -> Command:
    """Those of the list, which `pykbroker plugins` alone takes too."""
    for option in (
        click.option("--plugins-dir", metavar="DIR", type=Path, help="A directory of plugin files."),
        click.option("--plugin", "named", metavar="MODULE_OR_FILE", multiple=True, help="One more plugin."),
        click.option("--set", "sets", metavar="KEY=VALUE", multiple=True, help="One setting."),
        click.option("--config", metavar="FILE", type=Path, help="Settings, as for `pykbroker serve`."),
        format_option,
    ):
        command = option(command)
    return command


@click.group("plugins", invoke_without_command=True, short_help="List plugins, or begin a new one.")
@_list_options
def command(**options: object) -> None:
    """List the plugins that a broker would load, or begin a new one.

    Without a command: `list`.
    """
    ctx = click.get_current_context()
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_, **options)


@command.command("list")
@_list_options
def list_(
    form: str, config: Path | None, sets: tuple[str, ...], named: tuple[str, ...], plugins_dir: Path | None
) -> None:
    """List plugins: their hooks, what they offer, their settings.

    Those that would be left out come last, with the reason.
    """
    plugins = _load(named, plugins_dir, config, sets)
    try:
        text = _as_json(plugins) if form == "json" else "\n".join(_as_text(plugins))
    finally:
        plugins.close()
    click.echo(text.rstrip())


def _load(
    named: Sequence[str], directory: Path | None, config: Path | None = None, sets: Sequence[str] = ()
) -> Plugins:
    """The plugins of a broker with these options, without a word in the log: the list says it."""
    from pykbroker.cli.serve import load_plugins, load_settings

    quiet, level = logging.getLogger("pykbroker.plugins"), logging.CRITICAL + 1
    before = quiet.level
    quiet.setLevel(level)
    try:
        return load_plugins(load_settings(config, list(sets)), named, directory)
    finally:
        quiet.setLevel(before)


def _as_json(plugins: Plugins) -> str:
    return json.dumps(
        {
            "plugins": [_entry(info) for info in plugins.infos()],
            "left_out": [
                {"name": each.plugin, "origin": each.origin, "reason": each.message}
                for each in plugins.problems
            ],
        },
        indent=2,
    )


def _entry(info: PluginInfo) -> dict[str, object]:
    return {
        "name": info.name,
        "version": info.version,
        "origin": info.origin,
        "hooks": list(info.hooks),
        "components": [{"kind": kind, "name": name} for kind, name in info.components],
        "settings": [
            {
                "name": name,
                "type": setting.kind.value,
                "default": _default(setting),
                "scopes": sorted(setting.scopes),
                "doc": " ".join(setting.doc.split()),
            }
            for name, setting in info.settings
        ],
    }


def _as_text(plugins: Plugins) -> Iterator[str]:
    for info in plugins.infos():
        yield click.style(f"{info.name} {info.version}".rstrip(), bold=True) + f"  ({info.origin})"
        for kind, names in _by_kind(info.components):
            yield click.wrap_text(f"{kind}: {', '.join(names)}", 96, "    ", "        ")
        yield click.wrap_text(f"hooks: {', '.join(info.hooks)}", 96, "    ", "        ")
        for name, setting in info.settings:
            where = ", ".join(sorted(setting.scopes))
            yield f"    {name} = {_default(setting) or '(empty)'}  ({setting.kind.value}; {where})"
            yield click.wrap_text(setting.doc, 96, "        ", "        ")
        yield ""
    for problem in plugins.problems:
        yield click.style(f"{problem.plugin} left out", fg="red", bold=True) + f"  ({problem.origin})"
        yield click.wrap_text(problem.message, 96, "    ", "    ")
        yield ""


def _by_kind(components: Sequence[tuple[str, str]]) -> Iterator[tuple[str, list[str]]]:
    kinds = dict.fromkeys(kind for kind, _ in components)
    for kind in kinds:
        names = [name for each, name in components if each == kind]
        yield (kind if len(names) == 1 else _plural(kind)), names


def _plural(kind: str) -> str:
    return kind[:-1] + "ies" if kind.endswith("y") else kind + "s"


def _default(setting: PluginSetting) -> str | None:
    value = setting.default
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | frozenset):
        return ",".join(value)
    return None if value is None else str(value)


@command.command()
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), required=True, help="What the plugin is to offer.")
@click.option(
    "--dir", "home", metavar="DIR", type=Path, default=Path("."), help="Where to put its folder. [here]"
)
def new(name: str, kind: str, home: Path) -> None:
    """Begin a plugin NAME: a package that works as it is.

    \b
      pykbroker plugins new no-cards --kind validator
      pip install -e no-cards && pytest no-cards

    NAME is the plugin's and its component's (letters, digits and -), as in `by-region`.
    """
    from pykbroker.cli import _scaffold

    if not _scaffold.NAME.fullmatch(name):
        raise click.BadParameter(
            f"{name!r} must be small letters, digits and -, beginning with a letter, as in by-region",
            param_hint="NAME",
        )
    _check_free(name, kind)
    try:
        written = _scaffold.write(home, name, kind)
    except FileExistsError as error:
        raise Failed(f"{error.filename} is there already", "Choose another NAME or --dir") from error
    except OSError as error:
        raise Failed(f"cannot write {error.filename}: {error.strerror}") from error
    for path in written:
        click.echo(path)
    click.echo(_scaffold.NEXT.format(folder=home / name, name=name))


def _check_free(name: str, kind: str) -> None:
    """Refuse a name that is taken here: the broker would leave the new plugin out."""
    plugins = _load((), None)
    try:
        for info in plugins.infos():
            taken = {offered for what, offered in info.components if what.startswith(kind.replace("-", " "))}
            if name == info.name or name in taken:
                raise Failed(
                    f"{name} is taken: by the plugin {info.name} ({info.origin})", "Choose another NAME"
                )
    finally:
        plugins.close()
