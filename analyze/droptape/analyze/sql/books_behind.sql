-- The events of recordings without an end from shortly before the last totals on.
-- entries: rows as entries of the books; margin: how long before, ns.
WITH last AS (SELECT recording, max(mono_ns) AS at FROM totals GROUP BY recording)
SELECT e.recording, e.kind,
    CASE WHEN max(last.at) IS NOT NULL
        THEN coalesce(sum(CASE WHEN e.mono_ns > last.at - {margin} THEN e.amount END), 0)
    END::BIGINT AS events
FROM ({entries}) AS e LEFT JOIN last USING (recording)
GROUP BY e.recording, e.kind
