-- What happened, per kind of event.
-- summary_scan: the result of summary_scan.sql. {kinds}: the event tables (kind). {totals}, {losses}: the views of these names.
-- Columns: kind; events (exact, without benign ones); recorded (of these, in rows); benign;
-- lost (not recorded, and said so); unaccounted (neither recorded nor said to be lost; 0 unless
-- something is wrong); since_ns, until_ns (first and last row, ns since 1970).
-- The rows can be ahead of the totals by a second when a recorder was killed, hence the greater.
WITH counted AS (
    SELECT kind,
        sum(CASE WHEN benign THEN 0 ELSE events END) AS exact,
        sum(CASE WHEN benign THEN 0 ELSE recorded END) AS recorded,
        sum(CASE WHEN benign THEN events ELSE 0 END) AS benign
    FROM {totals}
    GROUP BY kind
),
in_rows AS (
    SELECT kind,
        sum(CASE WHEN benign THEN 0 ELSE amount END) AS amount,
        sum(CASE WHEN benign THEN amount ELSE 0 END) AS benign,
        min(CASE WHEN benign THEN NULL ELSE since_ns END) AS since_ns,
        max(CASE WHEN benign THEN NULL ELSE until_ns END) AS until_ns
    FROM summary_scan
    GROUP BY kind
),
lost AS (
    SELECT kind, sum(events) AS events FROM {losses} GROUP BY kind
)
SELECT k.kind,
    greatest(coalesce(c.exact, 0), coalesce(r.amount, 0))::BIGINT AS events,
    coalesce(r.amount, 0)::BIGINT AS recorded,
    greatest(coalesce(c.benign, 0), coalesce(r.benign, 0))::BIGINT AS benign,
    coalesce(l.events, 0)::BIGINT AS lost,
    greatest(coalesce(c.exact, 0) - coalesce(c.recorded, 0) - coalesce(l.events, 0), 0)::BIGINT AS unaccounted,
    r.since_ns, r.until_ns
FROM {kinds} AS k
LEFT JOIN counted AS c ON c.kind = k.kind
LEFT JOIN in_rows AS r ON r.kind = k.kind
LEFT JOIN lost AS l ON l.kind = k.kind
ORDER BY events DESC, k.kind
