-- Counts per value of some columns, and how they spread over time, from the recorded rows.
-- {keys}: columns of raw.events AS k0, k1, …; {groups}: k0, k1, …. {per}: what they are counted per.
-- {spans}: name of each recording, when it began (ns since 1970), how long it is (whole seconds).
-- {factors}: kind, cause, benign, factor: by how much the exact total is above the rows.
-- {scales}: lengths of buckets in seconds, as rows.
-- Columns: kind, per, benign, those of {groups}; length (of a bucket); events (scaled up to the
-- exact totals); raw (sum of the rows' amounts); weighed (sum of their squares); whole, squares
-- (sum and sum of squares of the buckets that lie wholly in the recording, unscaled).
WITH keyed AS (
    SELECT e.kind, e.cause, {per} AS per, coalesce(e.benign, false) AS benign, {keys}, e.recording,
        floor((epoch_ns(e.ts) - p.origin) / 1000000000)::BIGINT AS moment, p.seconds, e.amount
    FROM raw.events AS e
    JOIN {spans} AS p(recording, origin, seconds) ON p.recording = e.recording
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
    FROM corrected CROSS JOIN {scales} AS l(length)
    GROUP BY kind, per, benign, {groups}, recording, l.length, bucket
)
SELECT kind, per, benign, {groups}, length, sum(events) AS events, sum(amount) AS raw,
    sum(weighed) AS weighed,
    coalesce(sum(CASE WHEN bucket >= 0 AND (bucket + 1) * length <= seconds THEN amount END), 0) AS whole,
    coalesce(sum(CASE WHEN bucket >= 0 AND (bucket + 1) * length <= seconds THEN amount * amount END), 0)
        AS squares
FROM bucketed
GROUP BY kind, per, benign, {groups}, length
