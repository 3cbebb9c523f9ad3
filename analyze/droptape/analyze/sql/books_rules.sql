-- Rules: what the kernel counted and what was recorded, per namespace where either is not 0.
-- {counters}: number of the rule and name of a counter of it, as rows of literals. {entries}: the
-- rows of books_entries that a rule is of, with its number (rule).
-- Columns: rule, recording, netns, counted, recorded, lost, doubtful, late (whether the namespace, or
-- one that had its number before, came after the first reading: {second} ns from the first mark).
WITH rules AS (
    SELECT * FROM (VALUES {counters}) AS named(rule, name)
),
counted AS (
    SELECT r.rule, c.recording, c.netns, sum(c.counted)::BIGINT AS counted
    FROM books_counted AS c
    JOIN rules AS r ON r.name = c.name
    GROUP BY r.rule, c.recording, c.netns
),
late AS (
    SELECT recording, netns, count(*) > 1
        OR min(opened) > min(min(opened)) OVER (PARTITION BY recording) + {second} AS late
    FROM books_windows
    GROUP BY recording, netns
),
entered AS (
    SELECT rule, recording, netns, sum(amount)::BIGINT AS recorded, sum(lost)::BIGINT AS lost,
        sum(doubtful)::BIGINT AS doubtful
    FROM ({entries})
    GROUP BY rule, recording, netns
)
SELECT coalesce(c.rule, e.rule) AS rule, coalesce(c.recording, e.recording) AS recording,
    coalesce(c.netns, e.netns) AS netns,
    coalesce(c.counted, 0) AS counted, coalesce(e.recorded, 0) AS recorded,
    coalesce(e.lost, 0) AS lost, coalesce(e.doubtful, 0) AS doubtful,
    coalesce(l.late, false) AS late
FROM counted AS c
FULL JOIN entered AS e ON c.rule = e.rule AND c.recording = e.recording AND c.netns = e.netns
LEFT JOIN late AS l
    ON l.recording = coalesce(c.recording, e.recording) AND l.netns = coalesce(c.netns, e.netns)
WHERE coalesce(c.counted, 0) <> 0 OR coalesce(e.recorded, 0) <> 0 OR coalesce(e.lost, 0) <> 0
ORDER BY 1, 2, 3
