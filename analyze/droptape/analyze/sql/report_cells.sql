-- Events over time for each combination of dimensions that report_groups named; the others are
-- put together by kind and cause.
-- report_groups: id and the dimensions. {dimensions}, {names}: as in report_groups.sql.
-- {same}: the condition that a row k is of group g. {origin}, {width}: of buckets, ns.
-- Columns: id (null for the others), recording, kind, cause, bucket (0 is the first), events.
WITH keyed AS (
    SELECT {dimensions}, amount, floor((epoch_ns(ts) - {origin}) / {width})::BIGINT AS bucket
    FROM raw.events
    WHERE benign IS NOT TRUE
),
grouped AS (
    SELECT {names}, bucket, sum(amount)::BIGINT AS amount
    FROM keyed
    GROUP BY {names}, bucket
)
SELECT g.id, CASE WHEN g.id IS NULL THEN k.kind END AS kind,
    CASE WHEN g.id IS NULL THEN k.cause END AS cause, bucket, sum(amount)::BIGINT AS events
FROM grouped AS k
LEFT JOIN report_groups AS g ON {same}
GROUP BY 1, 2, 3, 4
ORDER BY g.id NULLS LAST, 2, 3, bucket
