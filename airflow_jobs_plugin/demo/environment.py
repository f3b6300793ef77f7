"""The configuration of a throw-away Airflow, as environment variables."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

Config = Mapping[str, Mapping[str, object]]

# Of the user's shell: what would configure another Airflow, or another PostgreSQL.
FOREIGN_PREFIXES = ("AIRFLOW", "_AIRFLOW", "PG")


def default_config(
    home: Path, dags_folder: Path, database_url: str, async_database_url: str, ports: Mapping[str, int]
) -> dict[str, dict[str, object]]:
    """Return ``{section: {option: value}}`` for an Airflow on one machine that notices changes quickly.

    :param home: its AIRFLOW_HOME
    :param dags_folder: its only DAG bundle
    :param database_url: SQLAlchemy URL of its empty or migrated database
    :param async_database_url: the same for an async driver
    :param ports: free ports named ``api``, ``worker_log``, ``trigger_log``, ``scheduler_health``
    """
    base_url = f"http://127.0.0.1:{ports['api']}"
    return {
        "core": {
            "dags_folder": dags_folder,
            "plugins_folder": home / "plugins",
            "executor": "LocalExecutor",
            "load_examples": False,
            "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "auth_manager": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
            "simple_auth_manager_all_admins": True,
            "simple_auth_manager_passwords_file": home / "passwords.json",
            "execution_api_server_url": f"{base_url}/execution/",
            # Not the default's getfqdn: without a name server that one waits for a time-out.
            "hostname_callable": "socket.gethostname",
            "min_serialized_dag_update_interval": 1,
        },
        "database": {
            "sql_alchemy_conn": database_url,
            "sql_alchemy_conn_async": async_database_url,
            # The stack migrates; a check at start would only keep the API server from starting meanwhile.
            "check_migrations": False,
        },
        "api": {
            "host": "127.0.0.1",
            "port": ports["api"],
            "base_url": base_url,
            "workers": 1,
            "secret_key": secrets.token_urlsafe(24),
            "dag_cache_size": 0,  # a changed DAG is served as it is now
        },
        "api_auth": {"jwt_secret": secrets.token_urlsafe(48)},
        "scheduler": {
            "scheduler_heartbeat_sec": 1,
            "scheduler_idle_sleep_time": 0.5,
            "scheduler_health_check_server_host": "127.0.0.1",
            "scheduler_health_check_server_port": ports["scheduler_health"],
        },
        "dag_processor": {
            "refresh_interval": 2,
            "bundle_refresh_check_interval": 1,
            "min_file_process_interval": 5,
            "parsing_processes": 1,
            "dag_bundle_storage_path": home / "bundles",
        },
        "logging": {
            "base_log_folder": home / "logs",
            "dag_processor_child_process_log_directory": home / "logs" / "dag_processor",
            "worker_log_server_port": ports["worker_log"],
            "trigger_log_server_port": ports["trigger_log"],
            "colored_console_log": False,
        },
        "usage_data_collection": {"enabled": False},
    }


def merge(base: Config, extra: Config) -> dict[str, dict[str, object]]:
    """Return *base* with the options of *extra* on top, neither of them changed."""
    merged = {section: dict(options) for section, options in base.items()}
    for section, options in extra.items():
        merged.setdefault(section, {}).update(options)
    return merged


def _name(section: str, option: str) -> str:
    return f"AIRFLOW__{section.upper().replace('.', '_')}__{option.upper()}"


def build(home: Path, config: Config, connections: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """Return the whole environment for Airflow's processes.

    It is this process's own without any Airflow or PostgreSQL setting, then *config*, *connections*
    (id to URI or JSON, as in ``AIRFLOW_CONN_…``) and *extra*, the later ones winning.
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN_PREFIXES)}
    # A proxy meant for the internet must not get the calls to 127.0.0.1.
    hosts = [h for h in (env.get("no_proxy") or env.get("NO_PROXY", "")).split(",") if h]
    env["no_proxy"] = env["NO_PROXY"] = ",".join(dict.fromkeys([*hosts, "127.0.0.1", "localhost"]))
    env["AIRFLOW_HOME"] = str(home)
    env["PYTHONUNBUFFERED"] = "1"  # so that logs are there when something fails
    for section, options in config.items():
        env.update({_name(section, option): str(value) for option, value in options.items()})
    env.update({f"AIRFLOW_CONN_{name.upper()}": value for name, value in connections.items()})
    env.update(extra)
    return env
