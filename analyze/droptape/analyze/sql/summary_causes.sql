-- Why it happened: causes by kind and kernel function, most frequent first.
-- summary_scan: the result of summary_scan.sql. {totals}: the view of that name. {limit}: rows at most.
-- Columns: kind; cause; function (null where a kind has none); events (exact, benign ones left
-- out); share (percent of the events of its kind); since_ns, until_ns (first and last row, ns since
-- 1970; null when no row was recorded); found (how many causes there are).
WITH counted AS (
    SELECT kind, cause, function, sum(events) AS events
    FROM {totals}
    WHERE benign IS NOT TRUE
    GROUP BY kind, cause, function
),
in_rows AS (
    SELECT kind, cause, function, sum(amount) AS amount,
        min(since_ns) AS since_ns, max(until_ns) AS until_ns
    FROM summary_scan
    WHERE NOT benign
    GROUP BY kind, cause, function
),
both_ways AS (
    SELECT coalesce(c.kind, r.kind) AS kind, coalesce(c.cause, r.cause) AS cause,
        coalesce(c.function, r.function) AS function,
        greatest(coalesce(c.events, 0), coalesce(r.amount, 0))::BIGINT AS events,
        r.since_ns, r.until_ns
    FROM counted AS c
    FULL JOIN in_rows AS r
        ON coalesce(c.kind, '') = coalesce(r.kind, '')
        AND coalesce(c.cause, '') = coalesce(r.cause, '')
        AND coalesce(c.function, '') = coalesce(r.function, '')
)
SELECT kind, cause, function, events,
    round(100.0 * events / nullif(sum(events) OVER (PARTITION BY kind), 0), 1) AS share,
    since_ns, until_ns, count(*) OVER () AS found
FROM both_ways
WHERE events > 0
ORDER BY events DESC, kind, cause NULLS LAST, function NULLS LAST
LIMIT {limit}
