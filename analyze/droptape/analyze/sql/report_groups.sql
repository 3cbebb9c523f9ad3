-- The combinations of dimensions that have the most events, for the report.
-- {dimensions}: SQL of each dimension, named. {names}: their names. {limit}: rows at most.
-- Columns: the dimensions, events, since_ns, until_ns (ns since 1970), found (how many combinations
-- there are), total (events of all of them).
WITH keyed AS (
    SELECT {dimensions}, amount, epoch_ns(ts) AS moment
    FROM raw.events
    WHERE benign IS NOT TRUE
),
grouped AS (
    SELECT {names}, sum(amount)::BIGINT AS events, min(moment) AS since_ns, max(moment) AS until_ns
    FROM keyed
    GROUP BY {names}
)
SELECT *, count(*) OVER () AS found, (sum(events) OVER ())::BIGINT AS total,
    min(since_ns) OVER () AS first_ns, max(until_ns) OVER () AS last_ns
FROM grouped
ORDER BY events DESC, {names}
LIMIT {limit}
