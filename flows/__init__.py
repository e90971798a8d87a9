"""The Prefect side: order, names and rounds. All work is done by `ssl_pipeline`, which knows nothing of Prefect."""

import logging
import os

# Prefect reads its settings when it is first imported: so do the library's log lines reach its console and UI. Where it
# was imported before, `command.show_library_lines` does it.
os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "ssl_pipeline")
logging.getLogger("ssl_pipeline").setLevel(logging.INFO)

# Prefect's heartbeat to its makers, unless a user wants it: nothing here needs the internet, and on SQLite the
# heartbeat fails now and then with a traceback about a locked database.
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

# A server that is away, restarted say, is asked again for some eight minutes (2 + 4 + … + 256 s) before a flow gives up.
os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "8")
# Without a server each flow starts one of its own; on a machine that is busy, Prefect's 20 s are not enough for that.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "90")
# Flow runs say that they live, so that one whose machine has died is noticed (deploy/automations).
os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30")
