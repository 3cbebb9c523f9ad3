-- What was recorded, per namespace and kind of event, in the time that the counters cover.
-- {entries}: rows of recording, netns, mono_ns, kind, cause, protocol, function, failed, amount,
-- lost (counted in the kernel but not recorded), width (ns that a row stands for: an interval),
-- spread (ns before the row in which what it stands for may have happened).
-- {margin}: ns around the first and the last reading within which it cannot be told whether an event came before it.
-- Columns: recording, netns, kind, cause, protocol, function, failed, amount, lost, doubtful.
CREATE OR REPLACE TEMP TABLE books_entries AS
SELECT e.recording, e.netns, e.kind, e.cause, e.protocol, e.function, e.failed,
    sum(CASE WHEN e.mono_ns > w.opened AND e.mono_ns <= w.closed + e.width THEN e.amount ELSE 0 END)::BIGINT AS amount,
    sum(CASE WHEN e.mono_ns > w.opened AND e.mono_ns <= w.closed + e.width THEN e.lost ELSE 0 END)::BIGINT AS lost,
    sum(
        CASE WHEN e.mono_ns BETWEEN w.opened - {margin} - e.spread AND w.opened_until + {margin} + e.spread
            OR e.mono_ns BETWEEN w.closed_from - {margin} - e.spread AND w.closed + {margin} + e.spread
        THEN e.amount + e.lost ELSE 0 END
    )::BIGINT AS doubtful
FROM ({entries}) AS e
JOIN books_windows AS w
    ON e.recording = w.recording AND e.netns = w.netns
    AND e.mono_ns BETWEEN w.opened - {margin} - e.spread AND w.closed + {margin} + e.spread
GROUP BY ALL
