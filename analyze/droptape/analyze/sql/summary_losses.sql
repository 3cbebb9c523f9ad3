-- What could not be recorded.
-- {losses}: the view of that name.
-- Columns: kind, cause, events.
SELECT kind, cause, sum(events)::BIGINT AS events
FROM {losses}
GROUP BY kind, cause
HAVING sum(events) > 0
ORDER BY events DESC, kind, cause
