-- Events of namespaces and times that no counters cover.
-- {entries}: as in books_entries.
-- Columns: recording, kind, recorded.
SELECT e.recording, e.kind, sum(e.amount)::BIGINT AS recorded
FROM ({entries}) AS e
WHERE e.netns IS NULL OR NOT EXISTS (
    SELECT 1 FROM books_windows AS w
    WHERE w.recording = e.recording AND w.netns = e.netns
        AND e.mono_ns > w.opened AND e.mono_ns <= w.closed
)
GROUP BY e.recording, e.kind
ORDER BY e.recording, e.kind
