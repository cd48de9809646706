"""``pykbroker serve``: run a broker until SIGTERM or Ctrl-C."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pykbroker.cli import _logging
from pykbroker.cli._errors import Failed
from pykbroker.cli._progress import StartProgress

if TYPE_CHECKING:
    from pykbroker.broker import Broker
    from pykbroker.config import BrokerConfig
    from pykbroker.plugins import Plugins

log = logging.getLogger(__name__)

BANNER = """\
pykbroker {version} listens on {listeners}
  data in {data_dir}
  try it: pip install kafka-python, then paste into python
    from kafka import KafkaProducer
    KafkaProducer(bootstrap_servers="{bootstrap}").send("hello", b"world").get(10)
  Ctrl-C stops it
"""

HELP = """\
Run a broker until SIGTERM or Ctrl-C.

\b
  pykbroker serve                                  on localhost:9092, data in ./pykbroker-data
  pykbroker serve --listen 0.0.0.0:9092 --advertise broker.example.org:9092
  pykbroker serve --set num.partitions=4 --set flush.messages=1

Settings have Kafka's names (`pykbroker settings` lists them). They come from --config, then from the
environment (num.partitions is PYKBROKER_NUM_PARTITIONS), then from --set; the last one wins.

Once the broker listens, DATA-DIR/pykbroker.json (and the --ready-file) tell its pid and listeners.
"""


@click.command("serve", help=HELP, short_help="Run a broker.")
@click.option(
    "--listen", metavar="HOST:PORT", help="Where to listen; port 0 takes a free one. [localhost:9092]"
)
@click.option(
    "--advertise", metavar="HOST:PORT", help="What clients are told to connect to. [what it listens on]"
)
@click.option("--data-dir", metavar="DIR", type=Path, help="Where everything is kept. [./pykbroker-data]")
@click.option(
    "--config", metavar="FILE", type=Path, help="Settings: a TOML file or a Kafka server.properties."
)
@click.option("--set", "sets", metavar="KEY=VALUE", multiple=True, help="One setting; may be repeated.")
@click.option(
    "--plugin", "plugins", metavar="MODULE_OR_FILE", multiple=True, help="A plugin; may be repeated."
)
@click.option("--plugins-dir", metavar="DIR", type=Path, help="A directory of plugin files.")
@click.option("--ready-file", metavar="PATH", type=Path, help="Written when the broker listens.")
@click.option("--log-level", type=click.Choice(_logging.LEVELS), help="Lowest level that is logged. [info]")
@click.option(
    "--log-format", type=click.Choice(("text", "json")), help="Lines for people, or JSON lines. [text]"
)
def command(
    listen: str | None,
    advertise: str | None,
    data_dir: Path | None,
    config: Path | None,
    sets: tuple[str, ...],
    plugins: tuple[str, ...],
    plugins_dir: Path | None,
    ready_file: Path | None,
    log_level: str | None,
    log_format: str | None,
) -> None:
    all_sets = [*sets, *_sets(listen, advertise, data_dir, log_level, log_format)]
    settings = load_settings(config, all_sets)
    _logging.set_up(level=settings.pykbroker_log_level, form=settings.pykbroker_log_format)
    serve(load_plugins(settings, plugins, plugins_dir), ready_file)


def _sets(
    listen: str | None, advertise: str | None, data_dir: Path | None, level: str | None, form: str | None
) -> list[str]:
    """The options that are short for a setting, as ``KEY=VALUE``."""
    pairs = {
        "listeners": None if listen is None else f"PLAINTEXT://{_address('--listen', listen)}",
        "advertised.listeners": None
        if advertise is None
        else f"PLAINTEXT://{_address('--advertise', advertise)}",
        "log.dirs": data_dir,
        "pykbroker.log.level": level,
        "pykbroker.log.format": form,
    }
    return [f"{name}={value}" for name, value in pairs.items() if value is not None]


def _address(option: str, text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise click.BadParameter(f"{text!r} must be HOST:PORT, as in localhost:9092", param_hint=option)
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def load_settings(file: Path | None, sets: list[str]) -> BrokerConfig:
    """The broker's settings; raises UsageError for what is wrong with them."""
    from pykbroker.config import BrokerConfig, ConfigError

    try:
        return BrokerConfig.load(file, os.environ, sets)
    except ConfigError as error:
        raise click.UsageError(f"{error}\nAll settings: pykbroker settings") from error
    except OSError as error:
        raise click.UsageError(f"cannot read {error.filename}: {error.strerror}") from error


def load_plugins(settings: BrokerConfig, named: Sequence[str], directory: Path | None) -> Plugins:
    """The plugins of a command; raises UsageError for one that is not there, or a wrong setting of one."""
    from pykbroker.config import ConfigError
    from pykbroker.plugins import Plugins

    try:
        return Plugins.load(settings, extra=named, directory=directory)
    except ConfigError as error:
        raise click.UsageError(f"{error}\nPlugins and their settings: pykbroker plugins") from error
    except LookupError as error:
        raise click.UsageError(str(error)) from error


def serve(plugins: Plugins, ready_file: Path | None) -> None:
    """Run the broker in this process until a signal comes; raises :class:`Failed` when it cannot."""
    import trio

    from pykbroker.broker import Broker, StartError, cause_of

    with StartProgress() as progress:
        broker = Broker(plugins.config, plugins=plugins, ready_file=ready_file, on_progress=progress)
        try:
            trio.run(_until_signal, broker)
        except* StartError as group:
            error = cause_of(group)
            assert isinstance(error, StartError)
            failure = Failed(str(error), error.hint)
        else:
            return
    raise failure


async def _until_signal(broker: Broker) -> None:
    """The broker's life; the first SIGTERM or SIGINT ends it in order, the second at once."""
    import trio

    life = trio.CancelScope()

    async def watch(signals: AsyncIterator[int]) -> None:
        async for number in signals:
            name = signal.Signals(number).name
            if life.cancel_called:
                log.warning("leaving without a clean stop: second signal=%s", name)
                os._exit(1)
            log.info("stopping: signal=%s", name)
            life.cancel()

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, signals)
            with life:
                async with trio.open_nursery() as home:
                    await home.start(broker.run)
                    if broker.config.pykbroker_log_format == "text":
                        _greet(broker)
            nursery.cancel_scope.cancel()


def _greet(broker: Broker) -> None:
    from pykbroker import __version__

    text = BANNER.format(
        version=__version__,
        listeners=", ".join(broker.listeners),
        data_dir=broker.config.data_dir.absolute(),
        bootstrap=broker.bootstrap,
    )
    sys.stdout.write(text)
    sys.stdout.flush()
