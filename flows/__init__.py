"""Prefect flows over `ssl_pipeline`: order, rounds, retries, pages, review. The library never imports Prefect.

Five flows: `full_cycle`, `train_teacher`, `pseudo_label`, `train_student`, `build_masked_faces`. `tasks` wraps the
library's stages; `operations` holds the rest of Prefect. The package is installed as `ssl_pipeline_flows`.
"""

import logging
import os

# Prefect reads its settings at its first import. Where it was imported before this package, `operations.command` adds
# the handlers that this setting stands for.
os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "ssl_pipeline")
logging.getLogger("ssl_pipeline").setLevel(logging.INFO)

# A line of the library fits into 80 columns without its logger's name.
os.environ.setdefault(
    "PREFECT_LOGGING_FORMATTERS_STANDARD_FORMAT", "%(asctime)s.%(msecs)03d | %(levelname)-7s | %(message)s"
)

# No telemetry unless the user wants it: nothing here needs the internet, and on SQLite Prefect's telemetry sometimes
# logs a traceback about a locked database.
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

# A flow retries requests to an unreachable server for about eight minutes (2 + 4 + … + 256 s).
os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "8")
# Without a server each flow starts a temporary one; on a busy machine Prefect's default of 20 s is too short.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "300")
# Heartbeats let an automation detect flow runs whose machine died (deploy/automations).
os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30")
