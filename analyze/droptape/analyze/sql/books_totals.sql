-- The exact totals against the rows: per kind, namespace and cause, where they differ; and one row
-- with the sums for each kind that agrees.
-- {entries}: as in books_entries. {totals}: the view of that name.
-- Columns: recording, netns, kind, cause, counted, recorded.
WITH counted AS (
    SELECT recording, netns, kind, cause, sum(recorded) AS counted
    FROM {totals}
    GROUP BY ALL
),
entered AS (
    SELECT recording, netns, kind, cause, sum(amount) AS recorded
    FROM ({entries})
    GROUP BY ALL
),
both_ways AS (
    SELECT coalesce(c.recording, e.recording) AS recording, coalesce(c.netns, e.netns) AS netns,
        coalesce(c.kind, e.kind) AS kind, coalesce(c.cause, e.cause) AS cause,
        coalesce(c.counted, 0)::BIGINT AS counted, coalesce(e.recorded, 0)::BIGINT AS recorded
    FROM counted AS c
    FULL JOIN entered AS e
        ON c.recording = e.recording AND c.kind = e.kind
        AND coalesce(c.netns, 0) = coalesce(e.netns, 0) AND coalesce(c.cause, '') = coalesce(e.cause, '')
)
SELECT * FROM both_ways WHERE counted <> recorded
UNION ALL
SELECT recording, NULL, kind, NULL, sum(counted)::BIGINT, sum(recorded)::BIGINT
FROM both_ways
WHERE counted = recorded
GROUP BY recording, kind
ORDER BY recording, kind, netns NULLS FIRST, cause
