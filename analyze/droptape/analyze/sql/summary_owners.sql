-- To whom it happened: process, service port and container, most affected first.
-- {rows}: raw.events, or counts of it. {since}, {until}: times of a row, ns since 1970. {limit}: rows at most.
-- Columns: owner, pid (null when the owner is not known); port; container; events (by rows, which
-- stand for `weight` events each); kinds (comma-separated); cause (the most frequent one); since_ns,
-- until_ns (ns since 1970); found (how many there are).
WITH by_cause AS (
    SELECT owner_comm, owner_pid, port, container, kind, cause, sum(amount) AS amount,
        min({since}) AS since_ns, max({until}) AS until_ns
    FROM {rows}
    WHERE benign IS NOT TRUE
    GROUP BY owner_comm, owner_pid, port, container, kind, cause
),
ranked AS (
    SELECT *, row_number() OVER (
        PARTITION BY owner_comm, owner_pid, port, container
        ORDER BY amount DESC, kind, cause NULLS LAST
    ) AS place
    FROM by_cause
)
SELECT owner_comm AS owner, owner_pid AS pid, port, container, sum(amount)::BIGINT AS events,
    string_agg(DISTINCT kind, ', ' ORDER BY kind) AS kinds,
    max(CASE WHEN place = 1 THEN cause END) AS cause,
    min(since_ns) AS since_ns, max(until_ns) AS until_ns, count(*) OVER () AS found
FROM ranked
GROUP BY owner_comm, owner_pid, port, container
ORDER BY events DESC, owner NULLS LAST, pid NULLS LAST, port NULLS LAST, container NULLS LAST
LIMIT {limit}
