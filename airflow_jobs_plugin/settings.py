"""The ``[jobs]`` section of Airflow's configuration, read when asked and never at import."""

from __future__ import annotations

from typing import Any

SECTION = "jobs"

#: The section as Airflow documents it, and the one place of its defaults.
OPTIONS: dict[str, dict[str, Any]] = {
    "folder": {
        "description": "Folder of the job files; sub-folders count too. Relative paths start at the file that "
        "calls load_jobs(). Default: the folder 'jobs' beside that file.",
        "version_added": "0.1.0",
        "type": "string",
        "example": "/opt/airflow/jobs",
        "default": "",
    },
    "max_result_bytes": {
        "description": "Largest result of one payload item, in bytes; a larger one is an error of that item.",
        "version_added": "0.1.0",
        "type": "integer",
        "example": None,
        "default": "2097152",
    },
    "python_targets": {
        "description": "Functions that jobs with a python target may call: patterns of module:function, separated "
        "by commas or spaces, '*' for any run of characters. Empty: none.",
        "version_added": "0.1.0",
        "type": "string",
        "example": "my_company.jobs:*",
        "default": "",
    },
    "max_run_items": {
        "description": "Most items that a run may grow to by appending, whatever its job's maxRuns says.",
        "version_added": "0.1.0",
        "type": "integer",
        "example": None,
        "default": "100000",
    },
    "max_append_depth": {
        "description": "How many appends an item may be away from its run's own list: an item of the list is at "
        "depth 0, what its answer appends at depth 1, and so on.",
        "version_added": "0.1.0",
        "type": "integer",
        "example": None,
        "default": "1000",
    },
    "api_url": {
        "description": "Base URL at which workers, and APIs that got a run token, reach Airflow's API server to append "
        "items to a run. Default: [api] base_url, else that of [core] execution_api_server_url.",
        "version_added": "0.1.0",
        "type": "string",
        "example": "https://airflow.example.com",
        "default": "",
    },
    "run_token_hours": {
        "description": "How long a run token is valid, in hours. It is good for appending to one run only.",
        "version_added": "0.1.0",
        "type": "integer",
        "example": None,
        "default": "24",
    },
    "preload": {
        "description": "Whether the process that forks the workers loads beforehand what payload items need. "
        "Without it each item spends about a second on imports.",
        "version_added": "0.1.0",
        "type": "boolean",
        "example": None,
        "default": "True",
    },
    "sink_hosts": {
        "description": "Hosts that sinks may deliver to: patterns separated by commas or spaces, '*' for any run of "
        "characters. Empty: all.",
        "version_added": "0.1.0",
        "type": "string",
        "example": "hooks.example.com, *.s3.eu-central-1.amazonaws.com",
        "default": "",
    },
    "sink_private_addresses": {
        "description": "Whose sinks may deliver to hosts that are not on the public network (loopback, private, "
        "link-local and the like): 'files': those of jobs of files, 'all', or 'none'.",
        "version_added": "0.1.0",
        "type": "string",
        "example": None,
        "default": "files",
    },
    "sink_worker_identity": {
        "description": "Whether S3 sinks of jobs created over REST may go without credentials of their own, and so "
        "with what the worker itself may do at Amazon (environment, instance role). Never with an endpoint of their "
        "own. Those of job files always may.",
        "version_added": "0.1.0",
        "type": "boolean",
        "example": None,
        "default": "False",
    },
    "workspace_id": {
        "description": "The workspaceId in what sinks send.",
        "version_added": "0.1.0",
        "type": "string",
        "example": None,
        "default": "airflow",
    },
    "project_name": {
        "description": "The project in what sinks send, as its id and its name.",
        "version_added": "0.1.0",
        "type": "string",
        "example": None,
        "default": "default",
    },
}


def text(option: str) -> str:
    """The option as text, with its documented default."""
    from airflow.configuration import conf

    return str(conf.get(SECTION, option, fallback=OPTIONS[option]["default"]) or "").strip()


def number(option: str) -> int:
    """The option as a whole number of at least 1. Raises ``ConfigurationError``."""
    from airflow_jobs_plugin.errors import ConfigurationError

    value = text(option)
    try:
        parsed = int(value)
    except ValueError:
        parsed = 0
    if parsed < 1:
        raise ConfigurationError(f"[{SECTION}] {option} is {value!r}; it should be a whole number of at least 1")
    return parsed


def switch(option: str) -> bool:
    """The option as a yes or no; what is neither means no."""
    return text(option).lower() in ("true", "t", "1", "yes", "on")


def words(option: str) -> tuple[str, ...]:
    """The option as a list of words."""
    return tuple(text(option).replace(",", " ").split())


def max_map_length() -> int:
    """Airflow's own bound on the length of a mapped list."""
    from airflow.configuration import conf

    return int(conf.getint("core", "max_map_length", fallback=1024))


def base_path() -> str:
    """The path that Airflow's own pages are below, without a slash at its end; usually empty."""
    from urllib.parse import urlsplit

    from airflow.configuration import conf

    return urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")


def all_admins() -> bool:
    """Whether Airflow takes every visitor for an admin, as it does where people try things."""
    from airflow.configuration import conf

    return bool(conf.getboolean("core", "simple_auth_manager_all_admins", fallback=False))
