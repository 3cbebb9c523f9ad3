-- What the totals say was not recorded against what was reported as lost.
-- {totals}, {losses}: the views of these names.
-- Columns: recording, kind, counted (not recorded by the totals), recorded (reported), causes
-- (of all losses), disk_full, map_full, recursion.
-- Benign events that are only counted are not missing. Where they were to have rows, some have.
WITH missing AS (
    SELECT recording, kind,
        sum(CASE WHEN benign IS NOT TRUE OR rows_wanted THEN events - recorded ELSE 0 END) AS events
    FROM (
        SELECT *, bool_or(benign AND recorded > 0) OVER (PARTITION BY recording, kind) AS rows_wanted
        FROM {totals}
    )
    GROUP BY recording, kind
),
told AS (
    SELECT recording, kind, sum(CASE WHEN cause IN ('ring_full', 'sampled') THEN events ELSE 0 END) AS events,
        sum(CASE WHEN cause = 'disk_full' THEN events ELSE 0 END) AS disk_full,
        sum(CASE WHEN cause = 'map_full' THEN events ELSE 0 END) AS map_full,
        sum(CASE WHEN cause = 'recursion' THEN events ELSE 0 END) AS recursion,
        string_agg(DISTINCT replace(cause, '_', ' '), ', ' ORDER BY replace(cause, '_', ' ')) AS causes
    FROM {losses}
    GROUP BY recording, kind
)
SELECT coalesce(m.recording, t.recording) AS recording, coalesce(m.kind, t.kind) AS kind,
    coalesce(m.events, 0)::BIGINT AS counted, coalesce(t.events, 0)::BIGINT AS recorded,
    coalesce(t.causes, '') AS causes, coalesce(t.disk_full, 0)::BIGINT AS disk_full,
    coalesce(t.map_full, 0)::BIGINT AS map_full, coalesce(t.recursion, 0)::BIGINT AS recursion
FROM missing AS m
FULL JOIN told AS t ON m.recording = t.recording AND m.kind = t.kind
ORDER BY 1, 2
