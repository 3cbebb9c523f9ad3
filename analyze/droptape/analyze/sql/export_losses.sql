-- What could not be recorded.
-- {losses}: the view of that name.
-- Columns: recording, kind, cause; at_ns (ns since 1970); events (in that second).
SELECT recording, kind, cause, epoch_ns(ts) AS at_ns, sum(events)::BIGINT AS events
FROM {losses}
GROUP BY ALL
HAVING sum(events) > 0
ORDER BY recording, kind, cause, at_ns
