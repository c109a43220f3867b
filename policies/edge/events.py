"""What the runtime tells, one JSON object a line."""

from __future__ import annotations

import json
import logging
from typing import Any, TextIO

LOG = logging.getLogger("steadyhand.edge")


def tell(event: str, **facts: Any) -> None:
    """Log an event with its facts; a plain handler shows them as text."""
    if LOG.isEnabledFor(logging.INFO):
        shown = " ".join(f"{k}={v}" for k, v in facts.items())
        LOG.info("%s %s", event, shown, extra={"event": event, "facts": facts})


class JsonLines(logging.Formatter):
    """Time (s since 1970), level, event and facts of a record, as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        row = {
            "time_s": round(record.created, 6),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", record.name),
            **getattr(record, "facts", {"message": record.getMessage()}),
        }
        if record.exc_info:
            row["error"] = self.formatException(record.exc_info)
        return json.dumps(row, default=str)


def log_to(stream: TextIO, level: int = logging.INFO) -> logging.Handler:
    """Write the runtime's events to ``stream``; the handler can be removed from ``LOG``."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    LOG.addHandler(handler)
    LOG.setLevel(level)
    return handler
