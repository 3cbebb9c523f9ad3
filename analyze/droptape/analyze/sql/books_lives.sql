-- The rows of counters, each with the life of its namespace that it belongs to. A baseline may
-- come a moment before the mark of the first life.
SELECT recording, netns, ts, mono_ns, name, coalesce(device, '') AS device, value,
    coalesce(max(CASE WHEN name = 'netns.life' THEN value END) OVER (
        PARTITION BY recording, netns ORDER BY mono_ns RANGE UNBOUNDED PRECEDING
    ), 1) AS life
FROM counters
WHERE netns IS NOT NULL
