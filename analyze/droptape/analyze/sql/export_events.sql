-- The rows of all kinds in order of time, at most {limit} of them.
-- {limit}: rows at most. {owners}: tracks at most for each kind.
-- Columns: recording; kind; at_ns (ns since 1970); cause; track (the owner, null for all beyond {owners});
-- flow; function; amount (what the row adds to the exact total); benign; netns; container;
-- owner_source; every (rows that this one was picked from, 1 when all are there).
-- Thinning takes every n-th row of each cause, so rare causes keep at least their first row.
WITH owners AS (
    SELECT recording, kind, owner_comm, owner_pid, count(*) AS n
    FROM raw.events
    GROUP BY recording, kind, owner_comm, owner_pid
),
ranked AS (
    SELECT *, row_number() OVER (PARTITION BY recording, kind ORDER BY n DESC, owner_pid) AS place
    FROM owners
),
tracks AS (
    SELECT recording, kind, owner_comm, owner_pid,
        CASE WHEN owner_pid IS NULL THEN 'no process known' ELSE owner_comm || '[' || owner_pid || ']' END AS track
    FROM ranked
    WHERE place <= {owners}
),
thinned AS (
    SELECT *, greatest(1, ceil(count(*) OVER () / {limit}::DOUBLE))::BIGINT AS every,
        row_number() OVER (PARTITION BY recording, kind, cause ORDER BY mono_ns) - 1 AS number
    FROM raw.events
)
SELECT e.recording, e.kind, epoch_ns(e.ts) AS at_ns, coalesce(e.cause, e.kind) AS cause, t.track,
    CASE WHEN e.saddr IS NOT NULL THEN
        addr_text(e.saddr) || ':' || e.sport || ' > ' || addr_text(e.daddr) || ':' || e.dport
    END AS flow,
    e.function || coalesce(printf('+0x%x', e."offset"), '') AS function,
    e.amount, coalesce(e.benign, false) AS benign, coalesce(e.netns_name, e.netns::VARCHAR) AS netns,
    e.container, e.owner_source, e.every
FROM thinned AS e
LEFT JOIN tracks AS t ON t.recording = e.recording AND t.kind = e.kind
    AND t.owner_comm IS NOT DISTINCT FROM e.owner_comm
    AND t.owner_pid IS NOT DISTINCT FROM e.owner_pid
WHERE e.number % e.every = 0
ORDER BY at_ns, e.recording, e.kind
