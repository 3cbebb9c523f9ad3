-- How many events there were over time, split by one column.
-- {table}: a view of the schema raw, or counts of it. {key}: the column; {label}, {by}: how it is shown and called.
-- {amount}: what a row counts for. {moment}: its time, ns since 1970. {condition}: which rows count.
-- {width}: of a bucket, ns. {origin}: when the recording began, ns since 1970.
-- Columns: start (UTC), offset (seconds since origin; buckets begin at whole multiples of the width
-- after it), the column, events. A bucket without events has no row.
WITH bucketed AS (
    SELECT floor(({moment} - {origin}) / {width})::BIGINT AS bucket, {key} AS k, {amount} AS amount
    FROM {table}
    WHERE {condition}
),
counted AS (
    SELECT bucket, k, sum(amount)::BIGINT AS events
    FROM bucketed
    GROUP BY bucket, k
)
SELECT make_timestamp_ns({origin} + bucket * {width}) AS start,
    bucket * {width} / 1000000000.0 AS "offset",
    {label} AS {by},
    events
FROM counted
ORDER BY bucket, events DESC, k NULLS LAST
