-- The events of recordings without an end from shortly before the last totals on; where there are no
-- totals, those of the first moment of the recording.
-- entries: rows as entries of the books; margin: how long before and after, ns.
WITH last AS (SELECT recording, max(mono_ns) AS at FROM totals GROUP BY recording),
entries AS ({entries}),
first AS (SELECT recording, min(mono_ns) AS at FROM entries GROUP BY recording)
SELECT e.recording, e.kind,
    coalesce(sum(
        CASE WHEN e.mono_ns > last.at - {margin} OR last.at IS NULL AND e.mono_ns <= first.at + {margin}
        THEN e.amount END
    ), 0)::BIGINT AS events
FROM entries AS e
JOIN first USING (recording)
LEFT JOIN last USING (recording)
GROUP BY e.recording, e.kind
