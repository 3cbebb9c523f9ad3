-- How far each counter moved, per namespace.
-- Columns: recording, netns, name, counted.
CREATE OR REPLACE TEMP TABLE books_counted AS
WITH moved AS (
    SELECT recording, netns, life, device, name,
        arg_max(value, mono_ns) - arg_min(value, mono_ns) AS counted
    FROM ({lives})
    GROUP BY recording, netns, life, device, name
)
SELECT recording, netns, name, sum(counted)::BIGINT AS counted
FROM moved
GROUP BY recording, netns, name
