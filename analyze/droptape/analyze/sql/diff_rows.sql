-- Counts per value of some columns, and how they spread over time, from the recorded rows.
-- {keys}: columns of raw.events AS k0, k1, …; {groups}: k0, k1, …. {per}: what they are counted per.
-- {origin}: when the row's recording began, ns since 1970; {seconds}: how long it is.
-- {factors}: kind, cause, benign, factor: by how much the exact total is above the rows.
-- {scales}: lengths of buckets in seconds, as a list.
-- Columns: kind, per, benign, those of {groups}; length (of a bucket); events (scaled up to the
-- exact totals); raw (sum of the rows' amounts); weighed (sum of their squares); whole, squares
-- (sum and sum of squares of the buckets that lie wholly in the recording, unscaled).
WITH keyed AS (
    SELECT e.kind, e.cause, {per} AS per, coalesce(e.benign, false) AS benign, {keys}, e.recording,
        floor((epoch_ns(e.ts) - {origin}) / 1000000000)::BIGINT AS moment, {seconds} AS seconds,
        e.amount
    FROM raw.events AS e
),
by_second AS (
    SELECT kind, cause, per, benign, {groups}, recording, moment, any_value(seconds) AS seconds,
        sum(amount)::DOUBLE AS amount, sum(amount * amount)::DOUBLE AS weighed
    FROM keyed
    GROUP BY kind, cause, per, benign, {groups}, recording, moment
),
corrected AS (
    SELECT s.*, s.amount * coalesce(f.factor, 1.0) AS events
    FROM by_second AS s
    LEFT JOIN {factors} AS f
        ON f.kind = s.kind AND f.benign = s.benign AND f.cause IS NOT DISTINCT FROM s.cause
),
bucketed AS (
    SELECT kind, per, benign, {groups}, recording, l.length, floor(moment / l.length)::BIGINT AS bucket,
        any_value(seconds) AS seconds, sum(events) AS events, sum(amount) AS amount,
        sum(weighed) AS weighed
    FROM corrected CROSS JOIN (SELECT unnest({scales}) AS length) AS l
    GROUP BY kind, per, benign, {groups}, recording, l.length, bucket
)
SELECT kind, per, benign, {groups}, length, sum(events) AS events, sum(amount) AS raw,
    sum(weighed) AS weighed,
    coalesce(sum(CASE WHEN bucket >= 0 AND (bucket + 1) * length <= seconds THEN amount END), 0) AS whole,
    coalesce(sum(CASE WHEN bucket >= 0 AND (bucket + 1) * length <= seconds THEN amount * amount END), 0)
        AS squares
FROM bucketed
GROUP BY kind, per, benign, {groups}, length
