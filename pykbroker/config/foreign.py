"""Settings that Apache Kafka knows (4.3.1, and what older files still have) and that have no effect here.

Somebody's server.properties must start this broker: these are accepted, with one warning.
"""

from __future__ import annotations

PREFIXES = (
    "confluent.",
    "controller.",
    "delegation.token.",
    "group.consumer.",
    "group.coordinator.",
    "group.share.",
    "group.streams.",
    "kafka.metrics.",
    "listener.name.",
    "metadata.",
    "metrics.",
    "password.encoder.",
    "quota.",
    "remote.",
    "replication.quota.",
    "rlmm.config.",
    "rsm.config.",
    "sasl.",
    "share.",
    "ssl.",
    "zookeeper.",
)

NAMES = frozenset(
    """
    add.partitions.to.txn.retry.backoff.max.ms add.partitions.to.txn.retry.backoff.ms
    advertised.host.name advertised.port alter.config.policy.class.name
    alter.log.dirs.replication.quota.window.num alter.log.dirs.replication.quota.window.size.seconds
    authorizer.class.name auto.leader.rebalance.enable background.threads broker.heartbeat.interval.ms
    broker.id.generation.enable broker.session.timeout.ms client.quota.callback.class config.providers
    connection.failed.authentication.delay.ms connections.max.reauth.ms controlled.shutdown.enable
    cordoned.log.dirs create.topic.policy.class.name delete.records.purgatory.purge.interval.requests
    early.start.listeners elr.enabled enable.zookeeper.securelistener
    fetch.purgatory.purge.interval.requests follower.fetch.last.tiered.offset.enable host.name
    initial.broker.registration.timeout.ms inter.broker.listener.name inter.broker.protocol.version
    internal.segment.bytes leader.imbalance.check.interval.seconds listener.security.protocol.map
    log.cleaner.hash.algorithm.class log.cleaner.io.buffer.load.factor log.cleaner.io.buffer.size
    log.cleaner.io.max.bytes.per.second log.cleaner.threads log.dir.failure.timeout.ms
    log.initial.task.delay.ms log.message.downconversion.enable log.message.format.version
    log.message.timestamp.difference.max.ms max.connection.creation.rate
    max.connections.per.ip.overrides metric.reporters num.io.threads num.network.threads
    num.recovery.threads.per.data.dir num.replica.alter.log.dirs.threads num.replica.fetchers
    offsets.commit.required.acks offsets.topic.compression.codec port principal.builder.class
    process.roles producer.purgatory.purge.interval.requests queued.max.requests
    replica.fetch.backoff.ms replica.fetch.max.bytes replica.fetch.min.bytes
    replica.fetch.response.max.bytes replica.fetch.wait.max.ms replica.selector.class
    replica.socket.receive.buffer.bytes replica.socket.timeout.ms request.timeout.ms
    reserved.broker.max.id security.inter.broker.protocol security.providers
    socket.connection.setup.timeout.max.ms socket.connection.setup.timeout.ms telemetry.max.bytes
    transaction.abort.timed.out.transaction.cleanup.interval.ms
    transaction.partition.verification.enable transaction.remove.expired.transaction.cleanup.interval.ms
    transaction.state.log.load.buffer.size transaction.two.phase.commit.enable
    unstable.api.versions.enable unstable.feature.versions.enable
    """.split()  # noqa: SIM905  (a hundred quoted lines say less)
)


def is_known(name: str) -> bool:
    """Whether Apache Kafka has a setting of this name, or of its family."""
    return name in NAMES or name.startswith(PREFIXES)
