-- From when to when each namespace's counters were read.
-- A number of a namespace can be used again after it has ended: `netns.life` tells which it was.
-- One reading takes a while, and longer where others need the processors. The first is over when the
-- last of the counters has its first row, or that is lost; the last begins at the second `netns.life`.
-- Where old rows were removed, the first rows are what was true then, and the first reading after
-- them is the begin: within it, one counter is read a moment after the other.
-- {lives}: rows of counters with their life. {trimmed}: recordings where rows were removed, and the
-- time of the first rows (recording, from_ns). {reading}: how long one reading takes, ns. {longest}:
-- how long at most, where others need the processors.
-- Columns: recording, netns, life, opened, opened_until, closed_from, closed (CLOCK_MONOTONIC, ns).
CREATE OR REPLACE TEMP TABLE books_windows AS
WITH later AS (
    SELECT l.*, t.from_ns IS NOT NULL AS trimmed,
        min(CASE WHEN epoch_ns(l.ts) > t.from_ns THEN l.mono_ns END)
            OVER (PARTITION BY l.recording, l.netns, l.life) AS next_ns
    FROM ({lives}) AS l
    LEFT JOIN {trimmed} AS t ON l.recording = t.recording
),
by_name AS (
    SELECT recording, netns, life, name, device, any_value(trimmed) AS trimmed,
        min(mono_ns) AS first_ns, max(mono_ns) AS last_ns, count(*) AS readings,
        max(CASE WHEN mono_ns <= next_ns + {reading} THEN mono_ns END) AS begin_ns
    FROM later
    GROUP BY recording, netns, life, name, device
),
windows AS (
    SELECT recording, netns, life,
        CASE WHEN any_value(trimmed)
            THEN coalesce(max(begin_ns), max(last_ns))
            ELSE min(first_ns)
        END AS opened,
        -- Counters of devices come and go.
        max(CASE WHEN NOT trimmed AND device = '' THEN first_ns END) AS first_over,
        max(CASE WHEN name = 'netns.life' AND readings > 1 THEN last_ns END) AS last_begin,
        max(last_ns) AS closed
    FROM by_name
    GROUP BY recording, netns, life
)
SELECT recording, netns, life, opened,
    greatest(opened, least(coalesce(first_over, opened), opened + {longest})) AS opened_until,
    greatest(opened, coalesce(last_begin, closed)) AS closed_from, closed
FROM windows
