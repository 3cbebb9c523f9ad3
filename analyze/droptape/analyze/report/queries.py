"""The question behind every picture and table, as SQL that `droptape query` runs."""

from __future__ import annotations

from .cube import DIMENSIONS

_HARM = "WHERE benign IS NOT TRUE"


def queries(width_ns: int, origin_ns: int) -> dict[str, str]:
    """Return the SQL by name of picture or table; ``ranking:<dimension>`` for each dimension."""
    bucket = f"floor((epoch_ns(ts) - {origin_ns}) / {width_ns})"
    start = f"make_timestamp_ns(({origin_ns} + {width_ns} * {bucket})::BIGINT) AS start"
    texts = {
        "overview": f"""SELECT {start},
  kind, sum(amount) AS events
FROM events
{_HARM}
GROUP BY ALL ORDER BY start, kind""",
        "causes": f"""SELECT {start},
  kind, cause, sum(amount) AS events
FROM events
{_HARM}
GROUP BY ALL ORDER BY start, kind, cause""",
        "who": f"""SELECT owner_comm, owner_pid, container, port, netns, kind, cause,
  sum(amount) AS events, min(ts) AS since, max(ts) AS until
FROM events
{_HARM}
GROUP BY ALL ORDER BY events DESC LIMIT 100""",
        "queues": """SELECT ts, netns, laddr, lport, owner_comm,
  accept_queue, accept_queue_peak, backlog, syn_queue, sk_drops
FROM listeners
ORDER BY netns, laddr, lport, ts""",
        "functions": """SELECT kind, cause, function, "offset", module,
  sum(events) AS events, sum(recorded) AS recorded
FROM totals
WHERE benign IS NOT TRUE AND location IS NOT NULL
GROUP BY ALL ORDER BY events DESC""",
        "losses": """SELECT kind, cause, min(ts) AS since, sum(events) AS events
FROM losses
GROUP BY ALL ORDER BY events DESC""",
        "sysctls": """SELECT name, value, count(DISTINCT netns) AS namespaces
FROM sysctls
GROUP BY ALL ORDER BY name""",
    }
    for dimension, sql in DIMENSIONS.items():
        texts[f"ranking:{dimension}"] = f"""SELECT {sql} AS {dimension}, kind, sum(amount) AS events
FROM events
{_HARM}
GROUP BY ALL ORDER BY events DESC LIMIT 100"""
    return texts
