-- From when to when each namespace's counters were read.
-- A number of a namespace can be used again after it has ended: `netns.life` tells which it was.
-- Where old rows were removed, the first rows are what was true then, and the first reading after
-- them is the begin: within it, one counter is read a moment after the other.
-- {lives}: rows of counters with their life. {trimmed}: recordings where rows were removed, and the
-- time of the first rows (recording, from_ns). {reading}: how long one reading takes at most, ns.
-- Columns: recording, netns, life, opened, closed (CLOCK_MONOTONIC, ns).
CREATE OR REPLACE TEMP TABLE books_windows AS
WITH later AS (
    SELECT l.*, t.from_ns IS NOT NULL AS trimmed,
        min(CASE WHEN epoch_ns(l.ts) > t.from_ns THEN l.mono_ns END)
            OVER (PARTITION BY l.recording, l.netns, l.life) AS next_ns
    FROM ({lives}) AS l
    LEFT JOIN {trimmed} AS t ON l.recording = t.recording
)
SELECT recording, netns, life,
    CASE WHEN any_value(trimmed)
        THEN coalesce(max(CASE WHEN mono_ns <= next_ns + {reading} THEN mono_ns END), max(mono_ns))
        ELSE min(mono_ns)
    END AS opened,
    max(mono_ns) AS closed
FROM later
GROUP BY recording, netns, life
