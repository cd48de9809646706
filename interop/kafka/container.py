"""Apache Kafka in a container through testcontainers, and the choice between container and jars.

``start_kafka`` takes what it finds: a container if an engine answers and the image can be had, else the jars.
The environment variable ``PYKBROKER_INTEROP_KAFKA`` forces one of them: ``container`` or ``jars``. The image
is ``KAFKA_IMAGE``, by default ``apache/kafka:4.3.1``; any image with that one's layout and environment will
do."""

import logging
import os
import shutil
import subprocess
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from interop.kafka.jars import KAFKA_VERSION, MissingToolError
from interop.kafka.server import NODE_ID, ApacheKafka, free_ports

IMAGE_VARIABLE, CHOICE_VARIABLE = "KAFKA_IMAGE", "PYKBROKER_INTEROP_KAFKA"
DEFAULT_IMAGE = f"apache/kafka:{KAFKA_VERSION}"

_PORT = 9092
_log = logging.getLogger(__name__)


class RunningKafka(Protocol):
    """What tests need of either kind."""

    @property
    def bootstrap(self) -> str:
        """host:port of the client listener."""

    def close(self) -> None:
        """Stops it and removes what it left behind."""


class KafkaContainer:
    """One broker in a container, its client port published on the loopback interface.

    :param settings: broker settings by Kafka's names, passed as the image's environment variables.

    Raises MissingToolError from :meth:`start` if there is no testcontainers, no engine, or no image.
    """

    name = "apache-kafka"

    def __init__(self, *, image: str | None = None, settings: Mapping[str, str] | None = None) -> None:
        self.image = image or os.environ.get(IMAGE_VARIABLE) or DEFAULT_IMAGE
        (self.port,) = free_ports(1)
        self._settings = dict(settings or {})
        self._container: Any = None

    @property
    def bootstrap(self) -> str:
        """host:port of the client listener."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Fetches the image if need be, starts the container and waits until the broker serves."""
        os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")  # we remove the container ourselves
        try:
            from testcontainers.core.container import DockerContainer
            from testcontainers.core.wait_strategies import LogMessageWaitStrategy
        except ImportError as error:
            raise MissingToolError(f"{error}: pip install testcontainers") from error
        try:
            container = (
                DockerContainer(self.image).with_bind_ports(_PORT, self.port).with_envs(**self._environment())
            )
            self._container = container.waiting_for(LogMessageWaitStrategy("Kafka Server started"))
            self._container.start()
        except Exception as error:  # whatever the engine's client raises: no engine, no image, no start
            self.close()
            reason = (str(error) or type(error).__name__).splitlines()[0][:300]
            raise MissingToolError(f"no container from {self.image}: {reason}") from error

    def close(self) -> None:
        """Stops and removes the container; does nothing when there is none."""
        if self._container is not None:
            self._container.stop()
        self._container = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _environment(self) -> dict[str, str]:
        settings = {
            "node.id": str(NODE_ID),
            "process.roles": "broker,controller",
            "listeners": f"PLAINTEXT://:{_PORT},CONTROLLER://:9093",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "controller.quorum.voters": f"{NODE_ID}@localhost:9093",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "log.initial.task.delay.ms": "3600000",  # as in server.py
        } | self._settings
        return {"KAFKA_" + key.upper().replace(".", "_"): value for key, value in settings.items()}


def start_kafka(settings: Mapping[str, str] | None = None) -> RunningKafka:
    """A running broker of whichever kind can be had. Raises MissingToolError if neither can."""
    choice = os.environ.get(CHOICE_VARIABLE, "")
    if choice not in ("", "container", "jars"):
        raise MissingToolError(f"{CHOICE_VARIABLE}={choice}: say container or jars")
    if choice == "container" or (not choice and _engine_answers()):
        container = KafkaContainer(settings=settings)
        try:
            container.start()
        except MissingToolError as error:
            if choice:
                raise
            _log.warning("falling back to the jars: %s", error)
        else:
            return container
    kafka = ApacheKafka(settings=settings)
    try:
        kafka.start()
    except BaseException:
        kafka.close()
        raise
    return kafka


def _engine_answers() -> bool:
    """Whether a container engine is there and talks to us."""
    docker = shutil.which("docker") or shutil.which("podman")
    if docker is None:
        return False
    return subprocess.run([docker, "version"], capture_output=True, timeout=20, check=False).returncode == 0
