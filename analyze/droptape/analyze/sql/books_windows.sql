-- From when to when each namespace's counters were read.
-- A number of a namespace can be used again after it has ended: `netns.life` tells which it was.
-- Columns: recording, netns, life, opened, closed (CLOCK_MONOTONIC, ns).
CREATE OR REPLACE TEMP TABLE books_windows AS
SELECT recording, netns, life, min(mono_ns) AS opened, max(mono_ns) AS closed
FROM ({lives})
GROUP BY recording, netns, life
