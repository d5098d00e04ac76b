"""The stages in the order an event goes through them, and the process that runs them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from config import objectives
from config.kafka import client_options
from config.settings import Settings, SettingsError
from streams import behaviour, otlp, sessions
from streams.admin import check_topics
from streams.metrics import exposed, registry_of
from streams.stage import Stage
from streams.transport import ClientSettings
from streams.worker import WorkerSettings, run_process
from watchkeeper_client.control import TRUSTED_KEYS_VARIABLE, TrustedKeys, UnusableKeyError
from watchkeeper_client.trusted import TrustedKeysFile, trusted_from_env


def stages(settings: Settings) -> tuple[Stage, ...]:
    """otlp → sessions → behaviour.

    Raises:
        PolicyError, SettingsError: an objective of the policy file, or a trusted key, cannot be used.
    """
    partitions, stream = settings.kafka.partitions, settings.stream
    return (
        otlp.otlp_stage(),
        sessions.stage(
            window_partitions=partitions,
            window_ms=stream.window_ms,
            lateness_ms=stream.lateness_ms,
            follow_broker_clock=stream.idle_clock == "broker",
            trusted_keys=trusted_keys(settings),
        ),
        behaviour.stage(source_partitions=partitions, objectives=objectives.load(settings.policy)),
    )


def trusted_keys(settings: Settings) -> TrustedKeys:
    """Whose commands count: `WATCHKEEPER_TRUSTED_KEYS` (a file or JSON), or the file in the data directory.

    A file is followed, and may come late: the responder makes the one in the data directory.

    Raises:
        SettingsError: what the variable holds cannot be used.
    """
    if os.environ.get(TRUSTED_KEYS_VARIABLE, "").strip():
        try:
            return trusted_from_env(late=True)
        except UnusableKeyError as error:
            raise SettingsError(str(error)) from None
    return TrustedKeysFile(settings.data_dir / "keys" / "trusted.json", late=True)


def worker_settings(settings: Settings) -> WorkerSettings:
    """What the worker is told, from the settings of the process."""
    kafka, stream = settings.kafka, settings.stream
    security = client_options(kafka)
    return WorkerSettings(
        client=ClientSettings(
            bootstrap_servers=security.pop("bootstrap_servers"),
            group_id=f"{kafka.group_prefix}-stream",
            security=security,
            session_timeout_ms=kafka.session_timeout_ms,
            rebalance_timeout_ms=kafka.rebalance_timeout_ms,
            max_batch_records=stream.batch_records,
            idempotent_producer=kafka.idempotent_producer,
        ),
        checkpoint_interval_s=stream.checkpoint_ms / 1000,
        checkpoint_events=stream.checkpoint_events,
        stall_s=stream.stall_ms / 1000,
        changelog_replication=kafka.replication,
    )


def run_worker(settings: Settings, on_ready: Callable[[], None]) -> None:
    """Runs the worker until SIGTERM; on a failure the process ends here, with exit code 1.

    Raises:
        BrokerError: no broker.
        TopicError: a topic is missing, or its partitions are not as many as the settings say. Windows are
            closed by the marks of all partitions of `agent.events`: with a wrong count they would never be.
        PolicyError, SettingsError: an objective of the policy file, or a trusted key, cannot be used.
    """
    objectives.load(settings.policy)  # Told before anything starts.
    asyncio.run(check_topics(settings.kafka))
    trusted_keys(settings)
    run_process(
        lambda: stages(settings),
        worker_settings(settings),
        on_ready=on_ready,
        beside=lambda worker: exposed(registry_of(worker.metrics, worker.lag), settings),
    )
