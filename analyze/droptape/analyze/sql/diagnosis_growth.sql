-- How far each counter moved while it was recorded.
-- counters: the table of one recording.
-- Columns: netns (null for the whole host), device, name, added, per_minute (in the worst minute),
-- since_ns, until_ns (first and last move that was seen), first, last (value), peak (highest value).
WITH lived AS (
    SELECT netns, device, name, value, epoch_ns(ts) AS ns, minute,
        coalesce(max(CASE WHEN name = 'netns.life' THEN value END) OVER (
            PARTITION BY netns ORDER BY mono_ns RANGE UNBOUNDED PRECEDING), 1) AS life
    FROM counters
),
stepped AS (
    SELECT netns, life, device, name, ns, minute, value,
        value - lag(value) OVER (PARTITION BY netns, life, device, name ORDER BY ns) AS step
    FROM lived
),
by_minute AS (
    SELECT netns, device, name, minute,
        sum(CASE WHEN step > 0 THEN step ELSE 0 END) AS added,
        min(CASE WHEN step > 0 THEN ns END) AS since_ns,
        max(CASE WHEN step > 0 THEN ns END) AS until_ns,
        arg_min(value, ns) AS first, arg_max(value, ns) AS last, max(value) AS peak
    FROM stepped
    GROUP BY netns, device, name, minute
)
SELECT netns, device, name, sum(added)::BIGINT AS added, max(added)::BIGINT AS per_minute,
    min(since_ns) AS since_ns, max(until_ns) AS until_ns,
    arg_min(first, minute) AS first, arg_max(last, minute) AS last, max(peak) AS peak
FROM by_minute
GROUP BY netns, device, name
