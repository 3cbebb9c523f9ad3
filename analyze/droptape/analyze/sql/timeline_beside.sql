-- Events over time, and the requests of a load generator in the same buckets.
-- {events}: the result of timeline.sql. {by}: its third column. {load}: an imported table; {label}: its name.
-- {width}: of a bucket, ns. {origin}: when the recording began, ns since 1970.
-- Columns: those of {events} (events are requests in rows of the load), failed, and latencies in ms.
-- Rows that stand for many requests have their own percentiles; then the highest of a bucket is
-- shown, because percentiles cannot be added up.
WITH drawn AS ({events}),
requests AS (
    SELECT floor((epoch_ns(ts) - {origin}) / {width})::BIGINT AS bucket,
        sum(requests)::BIGINT AS events, sum(failed)::BIGINT AS failed,
        coalesce(max(p50_ms), quantile_cont(latency_ms, 0.5)) AS p50_ms,
        coalesce(max(p90_ms), quantile_cont(latency_ms, 0.9)) AS p90_ms,
        coalesce(max(p99_ms), quantile_cont(latency_ms, 0.99)) AS p99_ms,
        coalesce(max(max_ms), max(latency_ms)) AS max_ms
    FROM {load}
    GROUP BY bucket
)
SELECT start, "offset", {by}::VARCHAR AS {by}, events, NULL::BIGINT AS failed,
    NULL::DOUBLE AS p50_ms, NULL::DOUBLE AS p90_ms, NULL::DOUBLE AS p99_ms, NULL::DOUBLE AS max_ms
FROM drawn
UNION ALL
SELECT make_timestamp_ns({origin} + bucket * {width}), bucket * {width} / 1000000000.0, {label},
    events, failed, p50_ms, p90_ms, p99_ms, max_ms
FROM requests
ORDER BY "offset", events DESC, {by} NULLS LAST
