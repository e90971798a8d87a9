"""The Prefect side: order, names and rounds. All work is done by `ssl_pipeline`, which knows nothing of Prefect."""

import logging
import os

# Prefect reads its settings when it is first imported: only so do the library's log lines reach its console and UI.
os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "ssl_pipeline")
logging.getLogger("ssl_pipeline").setLevel(logging.INFO)
