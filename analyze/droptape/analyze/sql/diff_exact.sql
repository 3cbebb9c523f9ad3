-- Exact counts per value of some columns: what the kernel counted, whether or not a row was recorded.
-- {keys}: columns of totals AS k0, k1, …; {groups}: k0, k1, …. {per}: what they are counted per.
-- Columns: kind, per, benign, those of {groups}, events.
WITH keyed AS (
    SELECT kind, {per} AS per, coalesce(benign, false) AS benign, {keys}, events
    FROM totals
)
SELECT kind, per, benign, {groups}, sum(events)::BIGINT AS events
FROM keyed
GROUP BY kind, per, benign, {groups}
HAVING sum(events) > 0
