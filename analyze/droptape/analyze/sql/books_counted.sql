-- How far each counter moved since its window opened, per namespace.
-- {lives}: rows of counters with their life.
-- Columns: recording, netns, name, counted.
CREATE OR REPLACE TEMP TABLE books_counted AS
WITH moved AS (
    SELECT c.recording, c.netns, c.life, c.device, c.name,
        arg_max(c.value, c.mono_ns) - coalesce(
            arg_max(c.value, c.mono_ns) FILTER (c.mono_ns <= w.opened), arg_min(c.value, c.mono_ns)
        ) AS counted
    FROM ({lives}) AS c
    JOIN books_windows AS w
        ON c.recording = w.recording AND c.netns = w.netns AND c.life = w.life
    GROUP BY c.recording, c.netns, c.life, c.device, c.name
)
SELECT recording, netns, name, sum(counted)::BIGINT AS counted
FROM moved
GROUP BY recording, netns, name
